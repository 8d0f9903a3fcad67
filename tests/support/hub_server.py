"""A server on this machine that answers as the Hugging Face Hub does when a model is uploaded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from typing_extensions import override

OID = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """A repository: the files of each branch by path, and what its commits said."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    messages: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """The state of the server.

    Attributes:
        url: its address.
        token: the one that is accepted; its owner is `me`.
        may_write: whether the token has write access.
        repositories: by name.
        uploaded: large files by their SHA-256.
        failing: whether every request fails.
    """

    url: str = ""
    token: str = "hf_right"
    may_write: bool = True
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    failing: bool = False


class _Refused(Exception):
    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"error": message, **more}


class _Requests:
    """The requests of an upload, as huggingface_hub sends them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate),
            ("GET", r"/api/models/([^/]+/[^/]+)", self.info),
            ("GET", r"/api/models/([^/]+/[^/]+)/tree/(.+)", self.tree),
            ("POST", r"/api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/upload/(\w+)", self.upload),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
        ]

    def create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            raise _Refused(409, f"You already created this model repo: {url}", url=url)
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[name] = Repository(is_private)
        return {"url": url, "name": name}

    def validate(self, body: bytes) -> Any:
        _, begin, rest = json.loads(body)["content"].partition("---\n")
        try:
            yaml.safe_load(rest.partition("\n---")[0] if begin else "")
        except yaml.YAMLError as error:
            raise _Refused(400, "Invalid metadata", errors=[{"message": str(error)}]) from error
        return {"warnings": [], "errors": []}

    def info(self, _body: bytes, name: str) -> Any:
        if name not in self.hub.repositories:
            raise _Refused(404, "Repository not found")
        private = self.hub.repositories[name].private
        return {"id": name, "private": private, "sha": OID, "tags": [], "siblings": []}

    def tree(self, _body: bytes, name: str, branch: str) -> Any:
        files = self.hub.repositories[name].branches[branch.partition("?")[0]]
        return [{"type": "file", "path": p, "size": len(f), "oid": OID} for p, f in files.items()]

    def branch(self, _body: bytes, name: str, branch: str) -> Any:
        branches = self.hub.repositories[name].branches
        branches.setdefault(branch, dict(branches["main"]))
        return {}

    def preupload(self, body: bytes, _name: str, _branch: str) -> Any:
        def mode(path: str) -> str:
            return "lfs" if path.endswith(".safetensors") else "regular"

        paths = [file["path"] for file in json.loads(body)["files"]]
        return {"files": [{"path": p, "uploadMode": mode(p), "shouldIgnore": False} for p in paths]}

    def batch(self, body: bytes, _name: str) -> Any:
        asked = json.loads(body)["objects"]
        return {
            "transfer": "basic",
            "objects": [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}"}}}
                for each in asked
            ],
        }

    def upload(self, body: bytes, digest: str) -> Any:
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.uploaded[digest] = body
        return {}

    def commit(self, body: bytes, name: str, branch: str) -> Any:
        repository = self.hub.repositories[name]
        files = repository.branches[branch]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repository.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        url = f"{self.hub.url}/{name}/commit/{OID}"
        return {"commitUrl": url, "commitOid": OID, "pullRequestUrl": None, "success": True}

    def answer(self, method: str, path: str, body: bytes, authorization: str) -> Any:
        hub = self.hub
        if hub.failing:
            raise _Refused(500, "Internal error")
        # As on the Hub, the address of an upload is signed, and has no token.
        if not path.startswith("/upload/") and authorization != f"Bearer {hub.token}":
            raise _Refused(401, "Invalid username or password.")
        if method != "GET" and not hub.may_write:
            raise _Refused(403, "You don't have the rights to create a model here")
        for own, pattern, function in self.routes:
            if own == method and (found := re.fullmatch(pattern, path)):
                return function(body, *found.groups())
        raise _Refused(404, f"no route {method} {path}")


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve on a free port of this machine."""
    hub = Hub()
    requests = _Requests(hub)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, error = 200, {}
            try:
                path = self.path.partition("?")[0]
                authorization = self.headers.get("Authorization", "")
                content = requests.answer(self.command, path, body, authorization)
            except _Refused as refusal:
                status, content = refusal.status, refusal.content
                error = {"X-Error-Message": str(refusal)}
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **error}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _handle  # noqa: N815 (the names of http.server)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def logged_in(hub: Hub) -> Iterator[None]:
    """Send the requests of this process to the server; files go by LFS, as where hf_xet is not."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", hub.token)
        yield
