"""A service on loopback that keeps a log and goes wrong on demand."""

import json
import re
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


class Request(NamedTuple):
    method: str
    path: str
    status: int
    """0: the connection was cut."""
    authorized: bool
    """Whether it carried a token."""


class Reply(NamedTuple):
    body: object = None
    """Bytes, or what becomes JSON."""
    status: int = 200
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = Reply({"error": message}, status, headers)


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path" matches `pattern`, `times` times."""

    pattern: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the request's body that are read before the connection is cut."""
    drops_reply: bool = False
    """What is asked is done, and the connection cut instead of an answer."""
    meanwhile: Callable[[], object] = lambda: None
    """Called when the request, or the part of it before the cut, is read."""


class Service(ABC):
    """What is served; a subclass answers."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.url = ""
        self.storage_url = ""
        """Another origin, of the same service."""
        self.lock = threading.RLock()

    @abstractmethod
    def answer(self, method: str, url: str, token: str | None, body: bytes) -> Reply:
        """What a request is answered with."""

    def fault(self, pattern: str, **kind) -> Fault:
        self.faults.append(Fault(pattern, **kind))
        return self.faults[-1]

    def num_requests(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, f"{one.method} {one.path}")) for one in self.requests)

    def take_fault(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    service: Service

    def _serve(self) -> None:
        line = f"{self.command} {urlsplit(self.path).path}"
        fault = self.service.take_fault(line) or Fault("")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length if fault.cut_after is None else fault.cut_after)
        fault.meanwhile()
        if fault.cut_after is not None or len(body) < length:
            return self._cut()
        if fault.status is not None:
            return self._send(Reply({"error": "on demand"}, fault.status, fault.headers))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        reply = self.service.answer(self.command, self.path, token, body)
        return self._cut() if fault.drops_reply else self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _cut(self) -> None:
        self._log(0)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = "application/octet-stream" if isinstance(reply.body, bytes) else "application/json"
        status, headers = reply.status, {"Content-Type": kind, **reply.headers}
        window = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if window and status == 200:
            start, stop = int(window[1]), int(window[2] or len(body) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{min(stop, len(body)) - 1}/{len(body)}"
            status, body = (206, body[start:stop]) if start < len(body) else (416, b"")
        self._log(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _log(self, status: int) -> None:
        path = urlsplit(self.path).path
        authorized = "Authorization" in self.headers
        self.service.requests.append(Request(self.command, path, status, authorized))

    def log_message(self, format, *args) -> None:
        """Silent: `requests` is the log."""


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Serve it on two ports, which are two origins."""
    handler = type("Handler", (_Handler,), {"service": service})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    service.url, service.storage_url = (
        f"http://127.0.0.1:{server.server_port}" for server in servers
    )
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
