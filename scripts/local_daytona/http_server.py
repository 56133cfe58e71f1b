"""What aiohttp answers by itself to requests it cannot read: in Daytona's envelope, not as HTML."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from .errors import ApiError, envelope
from .http_json import LOCAL_HEADER, answer

# Of a request's first line and of each header; a list's label filter can be long.
LONGEST_LINE = 64 * 1024


class JsonHandler(RequestHandler):
    """One connection."""

    __slots__ = ()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Whoever sends what is not HTTP, without a key, must not fill the log with tracebacks."""
        if not isinstance(kw.get("exc_info"), HttpProcessingError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """As aiohttp's own, which closes the connection; with another body."""
        plain = super().handle_error(request, status, exc, message)
        reason = "local Daytona failed; its log has the reason"
        if status < 500:
            reason = f"the request cannot be read: {HTTPStatus(status).phrase}"
        response = answer(envelope(ApiError(plain.status, reason), request), status=plain.status)
        response.headers[LOCAL_HEADER] = "1"
        response.force_close()
        return response


class JsonServer(web.Server):
    """Makes such connections."""

    def __call__(self) -> RequestHandler:
        return JsonHandler(self, loop=self._loop, **self._kwargs)


class JsonRunner(web.AppRunner):
    """An AppRunner with such a server."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = JsonServer  # the application makes it, and takes no other class
        return server
