"""Where endpoint, key and region come from, each with its source.

A `.env` may name a key, never an endpoint.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .defaults import LARGEST_TEXT
from .errors import Failure
from .local import find_or_start, read_server_json

DEFAULT_ENDPOINT = "https://app.daytona.io/api"
DOTENV_FILES = (".env.local", ".env")
CREDENTIALS = ("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID")


@dataclass(frozen=True)
class Settings:
    """How to reach one engine: with `api_key`, or with `jwt_token` and `organization_id`.

    Secrets never show in a repr.
    """

    engine: str
    endpoint: str
    key_source: str
    api_key: str | None = field(default=None, repr=False)
    jwt_token: str | None = field(default=None, repr=False)
    organization_id: str | None = None
    target: str | None = None

    @classmethod
    def nowhere(cls) -> Settings:
        """For --dry-run: nothing is sent, so no key is needed."""
        return cls(
            engine="none", endpoint="http://127.0.0.1:9/api", key_source="nowhere", api_key="none"
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What redaction must find: also the password of a proxy, which errors may quote."""
        found = (self.api_key, self.jwt_token, *proxy_passwords(os.environ))
        return tuple(value for value in found if value)

    def describe(self) -> str:
        """For people: which engine, where, and whose key."""
        if self.engine == "local":
            return (
                f"local Daytona at {self.endpoint} (weaker than the cloud: it shares this machine's"
                f" kernel), key from {self.key_source}"
            )
        return f"cloud at {self.endpoint}, key from {self.key_source}"


def proxy_passwords(variables: Mapping[str, str]) -> list[str]:
    """Of HTTPS_PROXY=http://USER:PASSWORD@HOST and its like, as they stand there."""
    found = []
    for name, value in variables.items():
        if name.lower().endswith("_proxy"):
            user = value.partition("://")[2].partition("/")[0].rpartition("@")[0]
            found.append(user.partition(":")[2])
    return [password for password in found if password]


def refuse_broken_proxy(endpoint: str, variables: Mapping[str, str]) -> None:
    """Raises Failure network for a proxy by which no request can go; its value is not told."""
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass

    target = urlsplit(endpoint)
    if proxy_bypass(target.hostname or ""):
        return
    names = (f"{target.scheme}_proxy", f"{target.scheme.upper()}_PROXY")
    name = next((name for name in names if variables.get(name)), None)
    if name is None:
        return
    try:
        proxy = urlsplit(variables[name])
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and proxy.port != 0
    except ValueError:  # its port is no number
        usable = False
    if not usable:
        raise Failure(
            "network",
            f"{name} is no address of an HTTP proxy, so nothing was sent",
            fix=f"export {name}=http://HOST:PORT, or unset it",
            unsent=True,
        )


def local_settings() -> Settings:
    """Local Daytona, started if need be; raises Failure local_unavailable."""
    server = find_or_start()
    return Settings(
        engine="local", endpoint=server.endpoint, key_source="server.json", api_key=server.api_key
    )


def settings_from_environment(
    environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> Settings:
    """What the SDK itself would use; raises Failure no_credentials."""
    variables = os.environ if environ is None else environ
    endpoint, known = endpoint_from(variables), read_server_json()
    engine = "local" if known is not None and known.endpoint == endpoint else "cloud"
    values, sources = read_credentials(variables, Path.cwd() if folder is None else folder)
    if not values.get("DAYTONA_API_KEY") and not (
        values.get("DAYTONA_JWT_TOKEN") and values.get("DAYTONA_ORGANIZATION_ID")
    ):
        raise Failure(
            "no_credentials",
            "no API key: DAYTONA_API_KEY is neither in the environment"
            " nor in .env.local or .env here",
        )
    by_key = bool(values.get("DAYTONA_API_KEY"))
    return Settings(
        engine=engine,
        endpoint=endpoint,
        key_source=sources["DAYTONA_API_KEY" if by_key else "DAYTONA_JWT_TOKEN"],
        api_key=values.get("DAYTONA_API_KEY") if by_key else None,
        jwt_token=None if by_key else values["DAYTONA_JWT_TOKEN"],
        organization_id=values.get("DAYTONA_ORGANIZATION_ID"),
        target=values.get("DAYTONA_TARGET"),
    )


def endpoint_from(variables: Mapping[str, str]) -> str:
    """DAYTONA_API_URL of the real environment only.

    A file in the working directory must not say where a key is sent.
    """
    chosen = (
        variables.get("DAYTONA_API_URL") or variables.get("DAYTONA_SERVER_URL") or DEFAULT_ENDPOINT
    )
    if not chosen.startswith(("https://", "http://")):
        raise Failure(
            "network",
            "DAYTONA_API_URL is not an http or https address",
            fix=f"export DAYTONA_API_URL={DEFAULT_ENDPOINT}",
        )
    # The address is printed, and sent in clear to whoever asks.
    if "@" in chosen.partition("://")[2].partition("/")[0]:
        raise Failure(
            "network",
            "DAYTONA_API_URL must not carry a user or a password",
            fix="export it without, and DAYTONA_API_KEY beside it",
        )
    return chosen.rstrip("/")


def read_credentials(
    variables: Mapping[str, str], folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Values and their sources, in the SDK's order: environment, .env.local, .env.

    Where any credential is exported no file is read: a stranger's would complete it with an account
    or a region of its own. Raises Failure no_credentials for a file that cannot be read before a
    key was found, and for a key that is none.
    """
    names = (*CREDENTIALS, "DAYTONA_TARGET")
    values: dict[str, str] = {}
    sources: dict[str, str] = {}

    def take(source: str, layer: Mapping[str, str]) -> None:
        for name in names:
            value = layer.get(name, "").strip()
            if name not in values and value:
                values[name], sources[name] = value, source

    take("the environment", variables)
    if not any(variables.get(name) for name in CREDENTIALS):
        for name in DOTENV_FILES:
            take(name, read_dotenv(folder / name, needed="DAYTONA_API_KEY" not in values))
    for name in CREDENTIALS:
        refuse_broken_credential(name, values.get(name, ""), sources.get(name, ""))
    return values, sources


def refuse_broken_credential(name: str, value: str, source: str) -> None:
    """Raises Failure for what no HTTP header can carry: it would fail at the first request."""
    if all("!" <= char <= "~" for char in value):
        return
    raise Failure(
        "no_credentials",
        f"{name} of {source} holds a blank, a line break or another character that no key has",
        fix=f"copy the key once more from the Daytona dashboard: export {name}=...",
    )


def read_dotenv(path: Path, *, needed: bool = True) -> dict[str, str]:
    """Variables of one file, without expansion; {} when it is absent.

    One that cannot be read raises Failure no_credentials if it is `needed`: its key must not count
    as absent.
    """
    from dotenv import dotenv_values

    try:
        if not path.is_file():
            return {}
        refuse_strangers_file(path)
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT)
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("NUL")
    except OSError as error:
        problem = f"{path.name} here cannot be read: {error.strerror}"
        fix = f"make {path.name} readable, or export DAYTONA_API_KEY"
    except ValueError:
        problem = f"{path.name} here is {name_encoding(data)}, not UTF-8, so no key is read from it"
        fix = f"save {path.name} as UTF-8, or export DAYTONA_API_KEY"
    else:
        found = dotenv_values(stream=io.StringIO(text), interpolate=False)
        return {name: value for name, value in found.items() if value}
    if needed:
        raise Failure("no_credentials", problem, fix=fix)
    return {}


def refuse_strangers_file(path: Path) -> None:
    """Raises OSError for another user's: its key would make sandboxes in their account.

    Not below root, who works in folders of all kinds, above all in containers.
    """
    if hasattr(os, "geteuid") and os.geteuid() not in (0, path.stat().st_uid):
        raise OSError(errno.EPERM, "it is another user's")


def name_encoding(data: bytes) -> str:
    """Of text that is no UTF-8, as far as its bytes tell."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    return "UTF-16" if b"\0" in data else "in another encoding (Latin-1 or the like)"
