"""The HTTP application: who may call, how errors look, which routes there are."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from .api import configuration, events
from .api.unsupported import refusal
from .errors import ApiError, envelope
from .http_json import LOCAL_HEADER, answer

log = logging.getLogger(__name__)
# The real daemon's is 70; with a shorter one the sync SDK may send a command again
# (PROTOCOL.md, "Retries of the SDK").
KEEP_ALIVE_S = 75.0
BEGUN = "begun"  # of a request: its answer's head is on the way
JSON_LIMIT = 64 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Authenticator:
    """Lets in who knows the key, uses this server's own address, and is no foreign web page."""

    def __init__(
        self,
        *,
        port: int,
        api_key: str,
        on_request: Callable[[], None],
        is_signed: Callable[[web.BaseRequest], bool] = lambda _: False,
    ) -> None:
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._api_key = api_key.encode()
        self._on_request = on_request
        self._is_signed = is_signed

    def check(self, request: web.BaseRequest) -> None:
        """Raises the 403 or 401."""
        if request.headers.get(hdrs.HOST, "").lower() not in self._hosts:
            raise ApiError(403, "this Host is not served: DNS rebinding is refused")
        if not set(request.headers.getall(hdrs.ORIGIN, [])) <= self._origins:
            raise ApiError(403, "requests from web pages of another origin are refused")
        # socket.io clients show their key in their first packet, see api.events
        header = request.headers.get(hdrs.AUTHORIZATION, "")
        is_open = is_events(request.path) or request.path == configuration.PATH
        if not is_open and not self._knows_key(header) and not self._is_signed(request):
            raise ApiError(401, "Invalid credentials: the API key is not this server's")
        self._on_request()

    def _knows_key(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        shown = token.strip().encode(errors="replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(shown, self._api_key)


def is_events(path: str) -> bool:
    return path.rstrip("/") == events.PATH


def make_app(
    *, authenticator: Authenticator, routes: Sequence[web.RouteDef], channel: events.Events
) -> web.Application:
    """The application; every answer, errors included, is JSON and carries X-Daytona-Local."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            authenticator.check(request)
            return await handler(request)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, it is told or logged)
            if request.get(BEGUN) or isinstance(error, ConnectionError):
                return broken_off(request, error)
            return failed(request, error)

    app = web.Application(middlewares=[guard], client_max_size=JSON_LIMIT)
    app.on_response_prepare.append(mark_as_local)
    app.add_routes(routes)
    channel.attach(app)
    app.router.add_route("*", "/{path:.*}", unknown)
    return app


def failed(request: web.Request, error: Exception) -> web.Response:
    """The answer that tells a failure; aiohttp's redirects are raised again."""
    if isinstance(error, ApiError):
        return answer(envelope(error, request), status=error.status)
    if isinstance(error, web.HTTPException):
        refused = from_aiohttp(error, request)
        return answer(envelope(refused, request), status=refused.status)
    log.error("%s %s", request.method, request.rel_url.raw_path, exc_info=error)
    hidden = ApiError(500, "local Daytona failed; its log has the reason")
    return answer(envelope(hidden, request), status=500)


def broken_off(request: web.Request, error: Exception) -> web.Response:
    """End the connection; the result goes nowhere.

    The client has left, or holds half an answer that it must not take for the whole.
    """
    if not isinstance(error, (ApiError, ConnectionError)):
        log.error("%s %s", request.method, request.rel_url.raw_path, exc_info=error)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def mark_as_local(request: web.Request, response: web.StreamResponse) -> None:
    request[BEGUN] = True
    response.headers[LOCAL_HEADER] = "1"
    response.headers.pop(hdrs.SERVER, None)


async def unknown(request: web.Request) -> web.StreamResponse:
    """Redirects doubled and last slashes (PROTOCOL.md, "Answers in general"); else a 501 or 404.

    The 501 is for Daytona's other routes.
    """
    if "//" in request.path:
        single = re.sub(r"/{2,}", "/", request.raw_path)
        raise web.HTTPPermanentRedirect(single)
    if request.path.startswith("/toolbox/") and request.path.endswith("/"):
        moved = web.HTTPMovedPermanently if request.method == "GET" else web.HTTPTemporaryRedirect
        raise moved(request.raw_path.rstrip("/"))
    sentence = refusal(request.path)
    if sentence is not None:
        raise ApiError(501, sentence, code="NOT_IMPLEMENTED")
    raise ApiError(404, f"Cannot {request.method} {request.path}")


def from_aiohttp(error: web.HTTPException, request: web.Request) -> ApiError:
    """aiohttp's own refusals in our envelope; a redirect stays one."""
    if error.status < 400:
        raise error
    sentence = refusal(request.path) if error.status == 405 else None
    return ApiError(501, sentence) if sentence else ApiError(error.status, error.reason)
