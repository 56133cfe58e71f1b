"""A server that answers like Daytona at once, does nothing, and counts requests.

What is left is the client's own cost.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.serving import serving

FIXED: dict[str, dict[str, Any]] = {
    "logs": {"output": "", "stdout": "", "stderr": ""},
    "info": {
        "name": "f",
        "isDir": False,
        "size": 1,
        "mode": "",
        "modTime": "",
        "permissions": "",
        "owner": "",
        "group": "",
        "modifiedAt": "",
    },
    "c": {"id": "c", "command": "x", "exitCode": 0},
}
STDOUT = b"\x01\x01\x01"


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Instant:
    """A running instant server.

    `sandboxes` is how many the account seems to hold, `output` what a program prints.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    sandboxes: int = 0
    output: bytes = b"hello\n"
    state: str = "started"

    @property
    def requests(self) -> list[str]:
        return [f"{found.method} {found.target}" for found in self.received]

    def sandbox(self, number: int = 0) -> dict[str, Any]:
        return {
            "id": f"00000000-0000-4000-8000-{number:012}",
            "name": f"s{number}",
            "organizationId": "o",
            "user": "daytona",
            "env": {},
            "labels": {},
            "public": False,
            "networkBlockAll": False,
            "kvm": False,
            "target": "t",
            "cpu": 1,
            "gpu": 0,
            "memory": 1,
            "disk": 3,
            "toolboxProxyUrl": f"{self.url}/toolbox",
            "state": self.state,
            "desiredState": "started",
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "autoStopInterval": 15,
            "autoArchiveInterval": 1,
            "autoDeleteInterval": 0,
            "snapshot": "s",
        }

    def kept(self, path: str) -> dict[str, Any]:
        """A volume or a snapshot, of the name that is made or that the path ends with."""
        is_volume, name = path.startswith("/api/volumes"), path.rpartition("/")[2]
        if path == "/api/volumes":
            name = json.loads(self.received[-1].body)["name"]
        return self.volume(name) if is_volume else self.snapshot(name)

    def volume(self, name: str) -> dict[str, Any]:
        return {
            "id": "00000000-0000-4000-8000-000000000001",
            "name": name,
            "organizationId": "o",
            "state": "ready",
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "errorReason": None,
        }

    def snapshot(self, name: str) -> dict[str, Any]:
        return {
            **self.volume(name),
            "general": False,
            "state": "active",
            "size": 1,
            "entrypoint": None,
            "cpu": 1,
            "gpu": 0,
            "mem": 1,
            "disk": 3,
            "lastUsedAt": None,
        }

    def named(self, method: str, path: str) -> dict[str, Any]:
        """What a create or a look asked for: a client takes no other sandbox for its own."""
        if method == "GET" and path.count("/") == 3:
            return {"name": path.rpartition("/")[2]}
        if method != "POST" or path != "/api/sandbox":
            return {}
        asked = json.loads(self.received[-1].body)
        return {"name": asked.get("name") or "s0", "labels": asked.get("labels") or {}}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if "socket.io" in path:
            return web.Response(status=404)
        self.received.append(
            Received(request.method, request.path_qs, dict(request.headers), await request.read())
        )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.stream(request)
        return self.answer(request)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for start in range(0, len(self.output), 60_000):
            await socket.send_bytes(STDOUT + self.output[start : start + 60_000])
        await socket.close(code=1000)
        return socket

    def answer(self, request: web.Request) -> web.Response:
        path, method = request.path, request.method
        if fixed := FIXED.get(path.rpartition("/")[2]):
            return web.json_response(fixed)
        if path == "/api/sandbox" and method == "GET":
            limit = int(request.query.get("limit", 100))
            items = [self.sandbox(number) for number in range(min(limit, self.sandboxes))]
            return web.json_response(
                {"items": items, "nextCursor": "more" if self.sandboxes > limit else None}
            )
        if path.endswith("url"):
            return web.json_response(
                {"sandboxId": "s", "port": 8000, "url": f"{self.url}/page", "token": "t"}
            )
        if path.startswith(("/api/volumes", "/api/snapshots")):
            return web.json_response(self.kept(path))
        if path.startswith("/api/sandbox"):
            return web.json_response({**self.sandbox(), **self.named(method, path)})
        if path.endswith("/folder") or (path.endswith("/process/session") and method == "POST"):
            return web.Response(status=201)
        if path.endswith("/exec"):
            return web.json_response({"cmdId": "c"}, status=202)
        return self.answer_of_a_program(path, method)

    def answer_of_a_program(self, path: str, method: str) -> web.Response:
        if path.endswith("/process/session") and method == "GET":
            return web.json_response([])
        if path.endswith(("/execute", "/code-run")):
            return web.json_response({"exitCode": 0, "result": self.output.decode()})
        return web.json_response({"files": []})


@contextmanager
def running_instant(*, tls: ssl.SSLContext | None = None) -> Iterator[Instant]:
    instant = Instant()
    with serving(instant.handle, tls=tls) as instant.url:
        yield instant
