"""A Daytona whose every answer can be another: what a compromised or invented server may say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.benchmarks.instant import Instant
from tests.serving import serving

ID = "11111111-2222-4333-8444-555555555555"
Answer = Callable[["Hostile"], dict[str, Any]]


@dataclass
class Hostile(Instant):
    """The instant server, with other answers.

    `over` replaces fields of every sandbox, `created` and `found` those of a create and a look.
    """

    over: dict[str, Any] = field(default_factory=dict)
    created: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(
        default_factory=dict
    )  # by the end of a path: JSON, or (status, JSON)
    listed: list[dict[str, Any]] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    def sandbox(self, number: int = 0) -> dict[str, Any]:
        return {
            **super().sandbox(number),
            "id": ID,
            "autoDestroyAt": "2030-01-01T00:00:00Z",
            **self.made,
            **self.over,
        }

    def answer(self, request: web.Request) -> web.Response:
        path, method = request.path, request.method
        for end, said in self.answers.items():
            if path.endswith(end):
                status, body = said if isinstance(said, tuple) else (200, said)
                return web.json_response(body, status=status)
        if path == "/api/sandbox" and method == "GET":
            return web.json_response({"items": self.listed, "nextCursor": None})
        if path == "/api/sandbox":
            asked = json.loads(self.received[-1].body)
            self.made = {"name": asked.get("name"), "labels": asked.get("labels")}
            return web.json_response({**self.sandbox(), **self.created})
        if method == "GET" and path.startswith("/api/sandbox/") and path.count("/") == 3:
            if not self.made and not self.found:
                return web.json_response({"statusCode": 404, "message": "not found"}, status=404)
            return web.json_response({**self.sandbox(), **self.found})
        return super().answer(request)

    def asked(self, method: str, path: str = "") -> list[str]:
        """Targets of the requests of one method."""
        return [
            found.target
            for found in self.received
            if found.method == method and path in found.target
        ]


@contextmanager
def running_hostile() -> Iterator[Hostile]:
    server = Hostile()
    with serving(server.handle) as server.url:
        yield server
