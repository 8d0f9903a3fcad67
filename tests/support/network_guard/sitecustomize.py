"""Python imports this at its start: it notes every address outside this machine it is asked for."""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

_LOG = os.environ.get("NETWORK_GUARD_LOG")
_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _note(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    try:
        is_here = ipaddress.ip_address(name).is_loopback or name in {"0.0.0.0", "::"}
    except ValueError:
        is_here = name in {"localhost", socket.gethostname()}
    if not is_here and _LOG:
        with Path(_LOG).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")


def _noted_connect(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6}:
        _note(address[0])
    _connect(self, address)


def _noted_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    _note(host)
    return _getaddrinfo(host, *arguments, **options)


socket.socket.connect = _noted_connect  # type: ignore[method-assign]
socket.getaddrinfo = _noted_getaddrinfo
