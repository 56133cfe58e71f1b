"""HTTP of builds' logs, of sandboxes and of snapshots (PROTOCOL.md, "Builds and their logs")."""

from __future__ import annotations

from aiohttp import web

from ...http_json import Fields, answer
from ..sandboxes.register import Register
from ..snapshots.service import Snapshots
from .logs import BuildLogs

PLAIN_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class BuildLogRoutes:
    """Handlers over the logs of what was built."""

    def __init__(self, register: Register, snapshots: Snapshots, logs: BuildLogs) -> None:
        self._register = register
        self._snapshots = snapshots
        self._logs = logs

    def routes(self) -> list[web.RouteDef]:
        sandbox, snapshot = "/api/sandbox/{id}", "/api/snapshots/{id}"
        return [
            web.get(snapshot + "/build-logs-url", self.snapshot_logs_url),
            web.get(snapshot + "/build-logs", self.snapshot_logs),
            web.get(sandbox + "/build-logs-url", self.sandbox_logs_url),
            web.get(sandbox + "/build-logs", self.sandbox_logs),
        ]

    async def sandbox_logs_url(self, request: web.Request) -> web.Response:
        record = self._register.find(request.match_info["id"]).record
        return self._url(request, f"/api/sandbox/{record.id}/build-logs", record.id)

    async def snapshot_logs_url(self, request: web.Request) -> web.Response:
        snapshot = self._snapshots.find(request.match_info["id"])
        return self._url(request, f"/api/snapshots/{snapshot.id}/build-logs", snapshot.id)

    def _url(self, request: web.Request, path: str, build_id: str) -> web.Response:
        """Without a query: the SDK appends its own. Raises the 404 where there is no log."""
        self._logs.check(build_id)
        return answer({"url": f"http://{request.host}{path}"})

    async def sandbox_logs(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._register.find(request.match_info["id"]).record.id)

    async def snapshot_logs(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._snapshots.find(request.match_info["id"]).id)

    async def _stream(self, request: web.Request, build_id: str) -> web.StreamResponse:
        """Plain text in chunks, until the build ends when it is followed."""
        output = self._logs.output(build_id, follow=Fields.of_query(request).boolean("follow"))
        response = web.StreamResponse(headers=PLAIN_TEXT)
        await response.prepare(request)
        async for chunk in output:
            await response.write(chunk)
        await response.write_eof()
        return response
