"""Where endpoint, key and region come from, each with its source.

A `.env` may name a key, never an endpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
        """What redaction must find."""
        return tuple(value for value in (self.api_key, self.jwt_token) if value)

    def describe(self) -> str:
        """For people: which engine, where, and whose key."""
        if self.engine == "local":
            return (
                f"local Daytona at {self.endpoint} (weaker than the cloud: it shares this machine's"
                f" kernel), key from {self.key_source}"
            )
        return f"cloud at {self.endpoint}, key from {self.key_source}"


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
    or a region of its own.
    """
    names = ("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID", "DAYTONA_TARGET")
    exported = any(variables.get(name) for name in CREDENTIALS)
    files = () if exported else tuple((name, read_dotenv(folder / name)) for name in DOTENV_FILES)
    layers = [("the environment", variables), *files]
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for name in names:
            if name not in values and layer.get(name):
                values[name], sources[name] = layer[name], source
    return values, sources


def read_dotenv(path: Path) -> dict[str, str]:
    """Variables of one file, without expansion; {} when it is absent or unreadable."""
    from dotenv import dotenv_values

    try:
        if not path.is_file():
            return {}
        return {
            name: value for name, value in dotenv_values(path, interpolate=False).items() if value
        }
    except (OSError, UnicodeDecodeError):
        return {}
