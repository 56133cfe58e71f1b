"""Signed links to files: a key for each sandbox, and which requests may pass with a signature.

They need no API key: PROTOCOL.md, "Signed links to files".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

from aiohttp import web

from ..errors import ApiError, now
from ..http_json import plain
from .sandboxes.register import ManagedSandbox, Register

SIGNED = {("GET", "/toolbox/{id}/files/download"), ("POST", "/toolbox/{id}/files/upload-v2")}
FIELDS = ("path", "expires", "signature")
EXPIRES = re.compile(r"0|[1-9][0-9]{0,14}")
NEVER = 0


class FileLinks:
    """Keys are in the records only: neither a sandbox's JSON nor the status shows them."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def routes(self) -> list[web.RouteDef]:
        key = "/api/sandbox/{id}/signing-key"
        return [web.get(key, self.show), web.post(key + "/rotate", self.rotate)]

    async def show(self, request: web.Request) -> web.Response:
        """The key, made when it is first asked for."""
        managed = self._register.find(request.match_info["id"])
        return plain(managed.record.signing_key or await self._renew(managed))

    async def rotate(self, request: web.Request) -> web.Response:
        """A new key: every link signed until now is dead."""
        return plain(await self._renew(self._register.find(request.match_info["id"])))

    async def _renew(self, managed: ManagedSandbox) -> str:
        await self._register.change(managed, signing_key=secrets.token_urlsafe(32))
        return str(managed.record.signing_key)

    def admits(self, request: web.BaseRequest) -> bool:
        """Whether it is one of the two calls, for a path and a time that the sandbox's key signed.

        By the route that was matched, not by the text of the path: both must mean the same sandbox.
        """
        if not isinstance(request, web.Request) or request.match_info.route.resource is None:
            return False
        if (request.method, request.match_info.route.resource.canonical) not in SIGNED:
            return False
        if any(len(request.query.getall(name, [])) != 1 for name in FIELDS):
            return False
        path, expires, shown = (request.query[name] for name in FIELDS)
        key = self._key_of(request.match_info["id"])
        if not key or not EXPIRES.fullmatch(expires) or is_over(int(expires)):
            return False
        wanted = signature(key, request.method, path, expires).encode()
        return hmac.compare_digest(shown.encode(errors="replace"), wanted)

    def _key_of(self, id_or_name: str) -> str:
        try:
            return self._register.find(id_or_name).record.signing_key
        except ApiError:
            return ""


def is_over(expires: int) -> bool:
    return expires != NEVER and expires <= now()


def signature(key: str, method: str, path: str, expires: str) -> str:
    """As the SDK computes it (PROTOCOL.md, "Signed links to files")."""
    text = f"v1:files:{method}:{path}:{expires}".encode(errors="replace")
    digest = hmac.new(key.encode(), text, hashlib.sha256).digest()
    return "v1_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
