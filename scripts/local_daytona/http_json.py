"""What every handler shares: typed reading of requests, and JSON answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .errors import ApiError

LOCAL_HEADER = "X-Daytona-Local"  # in every answer, so that nobody takes this for the cloud
# The SDK maps `code` to its own error classes only when this is the source.
DAEMON = "DAYTONA_DAEMON"
BAD_BODY = "INVALID_REQUEST_BODY"  # the daemon's code for a body that lacks a field


def answer(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type="application/json")


def plain(text: str) -> web.Response:
    """A bare string, as Daytona answers one: clients take the body as it is."""
    return web.Response(text=text)


def nothing(status: int) -> web.Response:
    return web.Response(status=status)


class Fields:
    """A JSON object or a query string, read by type; a surprise is a 400 that names the field.

    Its `code` is Daytona's for a body, or for a query.
    """

    def __init__(self, values: Mapping[str, Any], code: str = "BAD_REQUEST") -> None:
        self._values = values
        self.code = code

    @classmethod
    async def of_body(cls, request: web.Request) -> Fields:
        data = await request.read()
        if not data:
            return cls({}, BAD_BODY)
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not JSON: {error}", code=BAD_BODY) from None
        if not isinstance(values, dict):
            raise ApiError(400, "the body must be a JSON object", code=BAD_BODY)
        return cls(values, BAD_BODY)

    @classmethod
    def of_query(cls, request: web.Request) -> Fields:
        return cls(request.query)

    def _refused(self, message: str) -> ApiError:
        return ApiError(400, message, code=self.code)

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def any(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """A string that UTF-8 can carry; without a default it must be there."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self._refused(f"{name} must be a string")
        return as_text(value, name)

    def integer(self, name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str):
            value = integer(value, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._refused(f"{name} must be a whole number from {least} to {most}")
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise self._refused(f"{name} must be true or false")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """An object whose values are strings, {} when absent."""
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._refused(f"{name} must be an object of strings")
        return {as_text(key, name): as_text(item, name) for key, item in value.items()}

    def list_of_texts(self, name: str) -> list[str]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refused(f"{name} must be a list of strings")
        return [as_text(item, name) for item in value]

    def scalars(self, name: str) -> dict[str, str]:
        """An object whose values are strings, or as text what is none; {} when absent."""
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._refused(f"{name} must be an object")
        texts = {
            key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items()
        }
        return {as_text(key, name): as_text(item, name) for key, item in texts.items()}


def as_text(value: str, name: str) -> str:
    """The value, if UTF-8 can carry it; raises the 400."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{name} holds a lone surrogate, which is not text") from None
    return value


def integer(text: str, name: str) -> int:
    """A whole number from a path or query; raises the 400 that names it."""
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, f"{name} must be a whole number") from None
