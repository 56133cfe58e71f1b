"""Who may see a preview: its tokens, which of them a request shows, a request without them.

PROTOCOL.md, "Previews", has the names and the order.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from ...errors import ApiError, now
from ...http1 import Headers, Request, values
from ..sandboxes.register import ManagedSandbox, Register

QUERY = "DAYTONA_SANDBOX_AUTH_KEY"
HEADER = "x-daytona-preview-token"
COOKIE = "daytona-sandbox-auth-"
OURS = "x-daytona-"  # headers that are said to Daytona, not to the program inside
MOST_ENCODINGS = 4  # one in another
KEY_PREFIX = "dtn_"  # every API key begins so: the cloud's is no business of a sandbox either
NEVER_PUBLIC = (22222, 2280, 33333)
SIGNED_LENGTH, SIGNED_LETTERS = 16, string.ascii_lowercase + string.digits
SIGNED_LIMIT = 256  # links of one sandbox that live at the same time


@dataclass(frozen=True)
class Grant:
    """Why a request may pass: "key", "token", "signed" or "public".

    `cookie` is to be set for a token that came in the query.
    """

    kind: str
    digest: str = ""
    expires: float | None = None
    cookie: str | None = None


class Access:
    """Tokens of all sandboxes.

    Signed ones are in the record, by their digest; the standard one lasts from start to start.
    """

    def __init__(self, register: Register, *, api_key: str) -> None:
        self._register = register
        self._api_key = api_key
        self._tokens: dict[str, str] = {}

    def token(self, managed: ManagedSandbox) -> str:
        """The standard token, which opens every port."""
        return self._tokens.setdefault(managed.record.id, secrets.token_hex(16))

    def forget_token(self, managed: ManagedSandbox) -> None:
        self._tokens.pop(managed.record.id, None)

    async def sign(self, managed: ManagedSandbox, port: int, seconds: int) -> str:
        """A new token for one port; raises the 400 when there are too many."""
        links = managed.record.signed_previews
        live = {key: link for key, link in links.items() if link["expires"] > now()}
        if len(live) >= SIGNED_LIMIT:
            message = f"This sandbox has {SIGNED_LIMIT} signed links already"
            raise ApiError(400, f"{message}; expire one, or wait until one ends")
        token = "".join(secrets.choice(SIGNED_LETTERS) for _ in range(SIGNED_LENGTH))
        link = {"port": port, "expires": now() + seconds}
        await self._register.change(managed, signed_previews={**live, digest_of(token): link})
        return token

    async def revoke(self, managed: ManagedSandbox, port: int, token: str) -> None:
        """Of a token that this port does not have, nothing is to be revoked."""
        if self._signed(managed, port, digest_of(token)) is not None:
            links = dict(managed.record.signed_previews)
            del links[digest_of(token)]
            await self._register.change(managed, signed_previews=links)

    def grant(
        self, managed: ManagedSandbox, port: int, request: Request, *, in_host: str | None
    ) -> Grant | None:
        """What lets the request pass, in Daytona's order; None when nothing does.

        `in_host` is the token in the host's name.
        """
        if any(same(key, self._api_key) for key in bearers(request)):
            return Grant("key")
        if any(same(value, self.token(managed)) for value in values(request.headers, HEADER)):
            return Grant("token", digest_of(self.token(managed)))
        for value in query_tokens(request):
            found = self._by_token(managed, port, value)
            if found is not None:
                return dataclasses.replace(found, cookie=set_cookie(managed, port, value, found))
        in_cookies = cookie_tokens(request, cookie_name(managed, port))
        for value in [*in_cookies, *([in_host] if in_host else [])]:
            found = self._by_token(managed, port, value)
            if found is not None:
                return found
        return Grant("public") if is_public(managed, port) else None

    def holds(self, managed: ManagedSandbox, port: int, grant: Grant) -> bool:
        """Whether a grant is still good."""
        if grant.kind == "token":
            return same(grant.digest, digest_of(self.token(managed)))
        if grant.kind == "signed":
            return self._signed(managed, port, grant.digest) is not None
        return grant.kind == "key" or is_public(managed, port)

    def _by_token(self, managed: ManagedSandbox, port: int, token: str) -> Grant | None:
        if same(token, self.token(managed)):
            return Grant("token", digest_of(token))
        return self._signed(managed, port, digest_of(token))

    def _signed(self, managed: ManagedSandbox, port: int, digest: str) -> Grant | None:
        """Looked up by digest, so that the time it takes says nothing of the token."""
        link = managed.record.signed_previews.get(digest)
        if link is None or link["port"] != port or link["expires"] <= now():
            return None
        return Grant("signed", digest, link["expires"])


def same(shown: str, known: str) -> bool:
    return hmac.compare_digest(shown.encode(errors="replace"), known.encode())


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def is_public(managed: ManagedSandbox, port: int) -> bool:
    return managed.record.public and port not in NEVER_PUBLIC


def cookie_name(managed: ManagedSandbox, port: int) -> str:
    """With the port: ports of an address share its cookies, and must not replace each other's."""
    return f"{COOKIE}{managed.record.id}-{port}"


def set_cookie(managed: ManagedSandbox, port: int, token: str, grant: Grant) -> str:
    ends = "" if grant.expires is None else f"; Max-Age={max(1, round(grant.expires - now()))}"
    return f"{cookie_name(managed, port)}={token}; Path=/; HttpOnly; SameSite=Lax{ends}"


def bearers(request: Request) -> Iterator[str]:
    for value in values(request.headers, "authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            yield token.strip()


def query_tokens(request: Request) -> Iterator[str]:
    for part in request.target.partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == QUERY:
            yield unquote_plus(value)


def cookie_tokens(request: Request, name: str) -> Iterator[str]:
    for line in values(request.headers, "cookie"):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                yield value


def without_query(target: str) -> str:
    """The target without the token, every other byte as it came."""
    path, mark, query = target.partition("?")
    parts = query.split("&")
    kept = "&".join(part for part in parts if unquote_plus(part.partition("=")[0]) != QUERY)
    return path + mark + kept if kept else path


def for_inside(request: Request) -> Request:
    """The request as the program inside may see it: with nothing that opens previews or the API."""
    others = [(name, value) for name, value in request.headers if not name.startswith(OURS)]
    kept = [(name, cleaned(name, value)) for name, value in others]
    headers: Headers = tuple((name, value) for name, value in kept if value is not None)
    return dataclasses.replace(request, target=without_query(request.target), headers=headers)


def cleaned(name: str, value: str) -> str | None:
    """A header's value without credentials of ours; None when nothing is left of it."""
    if name == "cookie":
        parts = [part.strip() for part in value.split(";")]
        theirs = [part for part in parts if not part.startswith(COOKIE) and not shows(part)]
        return "; ".join(theirs) or None
    if shows(value) or (name == "referer" and shows(value, QUERY)):
        return None
    return value


def shows(value: str, wanted: str = KEY_PREFIX) -> bool:
    return any(wanted in spelled for spelled in spellings(value))


def spellings(value: str) -> Iterator[str]:
    """A header's value as it is, with its percent signs read, and of Basic what it encodes."""
    for _ in range(MOST_ENCODINGS):
        yield value
        value = unquote(value)
    scheme, _, token = value.replace("\t", " ").strip().partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            yield base64.b64decode(token.strip()).decode(errors="replace")
