"""HTTP that makes, opens and revokes links to ports of a sandbox (PROTOCOL.md, "Previews")."""

from __future__ import annotations

from aiohttp import web

from ...errors import ApiError
from ...http_json import Fields, answer, integer
from ..sandboxes.register import ManagedSandbox, Register
from . import access
from .service import DEFAULT_EXPIRY_S, LONGEST_EXPIRY_S, Previews

LARGEST_PORT = 65535


class PreviewRoutes:
    """Handlers over Previews."""

    def __init__(self, register: Register, previews: Previews) -> None:
        self._register = register
        self._previews = previews

    def routes(self) -> list[web.RouteDef]:
        one = "/api/sandbox/{id}"
        signed = one + "/ports/{port}/signed-preview-url"
        return [
            web.get(one + "/ports/{port}/preview-url", self.link),
            web.get(signed, self.signed_link),
            web.post(signed + "/{token}/expire", self.expire),
            web.post(one + "/public/{public}", self.set_public),
        ]

    async def link(self, request: web.Request) -> web.Response:
        """The plain address, with the token that opens it."""
        managed, port = self._asked(request)
        url = f"http://{await self._previews.listen(managed, port)}"
        token = self._previews.access.token(managed)
        return answer({"sandboxId": managed.record.id, "url": url, "token": token})

    async def signed_link(self, request: web.Request) -> web.Response:
        """An address that opens by itself, until it expires or is revoked."""
        managed, port = self._asked(request)
        seconds = Fields.of_query(request).integer(
            "expiresInSeconds", DEFAULT_EXPIRY_S, least=1, most=LONGEST_EXPIRY_S
        )
        token = await self._previews.access.sign(managed, port, seconds)
        url = f"http://{await self._previews.listen(managed, port)}/?{access.QUERY}={token}"
        return answer({"sandboxId": managed.record.id, "port": port, "token": token, "url": url})

    async def expire(self, request: web.Request) -> web.Response:
        """Revoked when it answers, for open connections too."""
        managed, port = self._asked(request)
        await self._previews.access.revoke(managed, port, request.match_info["token"])
        self._previews.end_unwelcome(managed)
        return web.Response()

    async def set_public(self, request: web.Request) -> web.Response:
        public = Fields({"isPublic": request.match_info["public"]}).boolean("isPublic")
        managed = self._register.find(request.match_info["id"])
        record = await self._register.change(managed, public=public)
        self._previews.end_unwelcome(managed)
        return answer(self._register.as_json(record))

    def _asked(self, request: web.Request) -> tuple[ManagedSandbox, int]:
        port = integer(request.match_info["port"], "port")
        if not 0 < port <= LARGEST_PORT:
            raise ApiError(400, f"port must be from 1 to {LARGEST_PORT}")
        return self._register.find(request.match_info["id"]), port
