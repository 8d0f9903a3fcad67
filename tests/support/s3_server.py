"""An S3 server on loopback, and a proxy before it that lets some requests fail."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Lock, Thread
from typing import Any
from urllib.request import Request, urlopen

import fsspec

FAULTS = ("reset", "503", "slow", "cut")
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret-of-tester"}
_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>Please try again.</Message></Error>"

_NO_CONDITIONS = b"<Error><Code>NotImplemented</Code><Message>No such header.</Message></Error>"


@dataclass
class S3:
    """A server with S3's interface.

    Attributes:
        endpoint: its address.
        environment: that lets any client of S3 use it.
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **_CREDENTIALS,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def files(self) -> Any:
        """Return the server's files, as fsspec has them."""
        given = {"key": "tester", "secret": "secret-of-tester", "endpoint_url": self.endpoint}
        return fsspec.filesystem("s3", **given, use_listings_cache=False, skip_instance_cache=True)

    def objects(self, place: str) -> dict[str, str]:
        """Return the tag of each object below a bucket and prefix, by its path."""
        found = self.files().find(place, detail=True)
        return {path: entry["ETag"] for path, entry in found.items()}

    def flip_a_byte(self, path: str) -> None:
        """Change one bit in the middle of an object."""
        files = self.files()
        content = bytearray(files.cat_file(path))
        content[len(content) // 2] ^= 1
        files.pipe_file(path, bytes(content))

    def check_credentials(self, *, after: int | None) -> None:
        """Let the server check credentials after some requests; None: never."""
        count = str(10**9 if after is None else after).encode()
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{self.endpoint}/moto-api/reset-auth", count, headers, method="POST")
        urlopen(request).close()


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests to a server; a share of them fails, each in a way that networks do.

    Attributes:
        counts: how many requests ended in which way.
        share: of requests that fail.
        faults: ways to fail, in turn: a reset before or after the server has done its work, an
            answer 503, a delay, an answer that is cut; also `no conditions`, a server without
            If-None-Match.
    """

    daemon_threads = True

    def __init__(self, behind: str, share: float, faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind.removeprefix("http://")
        self.share, self._next = share, cycle(faults)
        self.counts: Counter[str] = Counter()
        self._random, self._lock = random.Random(0), Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def draw(self) -> str:
        """Choose what becomes of the next request."""
        with self._lock:
            fails = self._random.random() < self.share
            fault = next(self._next) if fails else "passed"
            self.counts[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients close connections as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def handle_one(self) -> None:
        fault = self.server.draw()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "503":
            self._answer(503, {"Content-Type": "application/xml"}, _BUSY)
            return
        if fault == "no conditions" and self.headers.get("If-None-Match"):
            self._answer(501, {"Content-Type": "application/xml"}, _NO_CONDITIONS)
            return
        if fault == "slow":
            time.sleep(0.3)
        passed_on = fault != "reset" or len(body) % 2  # a reset comes before or after the work
        status, headers, content = self._behind(body) if passed_on else (0, {}, b"")
        if fault == "reset":
            self._reset()
        elif fault == "cut" and len(content) > 1:
            self._answer(status, headers, content[: len(content) // 2], len(content))
            self._reset()
        else:
            self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815

    def _behind(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: Mapping[str, str], content: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        dropped = ("content-length", "transfer-encoding", "connection")
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        known = next((v for name, v in headers.items() if name.lower() == "content-length"), None)
        is_head = self.command == "HEAD"
        size = known if is_head and known else len(content) if length is None else length
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        """Close the connection with a reset instead of an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def faulty_proxy(
    behind: S3, share: float, faults: tuple[str, ...] = FAULTS
) -> Iterator[FaultyProxy]:
    """Run a proxy before a server."""
    proxy = FaultyProxy(behind.endpoint, share, faults)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
