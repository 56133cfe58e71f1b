"""Every operation of Daytona's two published descriptions: no 500, no hang, no HTML.

With likely and with senseless values.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.local_server import LocalServer, Reply, new_state_dir, running_server

pytestmark = pytest.mark.thorough

DESCRIPTIONS = Path(__file__).resolve().parents[3] / "shared" / "openapi"
METHODS = ("get", "post", "put", "patch", "delete")
SEED = 226
ROUNDS = 3  # one with likely values, the others with senseless ones
LEAST_OPERATIONS = {"api": 150, "toolbox": 90}
# Bodies that are no JSON by nature: files, logs, pages of a preview.
OTHER_TYPES = ("application/octet-stream", "multipart/form-data", "text/plain")
SENSELESS: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    1.5,
    "",
    " ",
    "../../etc/passwd",
    "\u0000",
    "x" * 5000,
    "é\u202e",
    "\ud800",
    [],
    [None],
    {},
    {"a": {"b": []}},
    "%00",
    "%2e%2e%2f",
    "true",
    "-1",
    "1e309",
    "<script>",
)


@dataclass(frozen=True)
class Operation:
    """One method of one path, with its description's parameters and the schemas they refer to."""

    api: str
    method: str
    path: str
    parameters: tuple[dict[str, Any], ...]
    body: dict[str, Any] | None = field(repr=False)
    schemas: dict[str, Any] = field(repr=False)


# The daemon has 500s of its own, with their reason; this is what no answer of ours may say.
OUR_FAILURE = b"local Daytona failed"


def operations(api: str) -> list[Operation]:
    """All of one description, OpenAPI 3 or Swagger 2."""
    document = json.loads((DESCRIPTIONS / f"{api}.json").read_text())
    schemas = document.get("definitions") or document["components"]["schemas"]
    return [
        Operation(api, method, path, tuple(item.get("parameters", [])), body_schema(item), schemas)
        for path, methods in document["paths"].items()
        for method, item in methods.items()
        if method in METHODS
    ]


def body_schema(item: dict[str, Any]) -> dict[str, Any] | None:
    for parameter in item.get("parameters", []):
        if parameter["in"] == "body":
            return dict(parameter["schema"])
    content = item.get("requestBody", {}).get("content", {})
    return next((dict(entry.get("schema", {})) for entry in content.values()), None)


class Values:
    """Values for a schema: likely ones, or with `dice` senseless ones now and then."""

    def __init__(self, operation: Operation, sandbox: str, dice: random.Random | None) -> None:
        self.operation = operation
        self.sandbox = sandbox
        self.dice = dice

    def of(self, schema: dict[str, Any], name: str, depth: int = 0) -> Any:
        if self.dice is not None and self.dice.random() < 0.4:
            return self.dice.choice(SENSELESS)
        schema = self.resolved(schema)
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            known = schema.get("properties", {}) if depth < 4 else {}
            wanted = schema.get("required", []) if self.dice is None else list(known)
            return {key: self.of(known[key], key, depth + 1) for key in wanted if key in known}
        if kind == "array":
            return [self.of(schema.get("items", {}), name, depth + 1)]
        return {"integer": 1, "number": 1, "boolean": False}.get(str(kind), self.text(name))

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for key in ("allOf", "oneOf", "anyOf"):
            if key in schema:
                schema = {**schema, **schema[key][0]}
        reference = schema.get("$ref")
        return self.operation.schemas[reference.rpartition("/")[2]] if reference else schema

    def text(self, name: str) -> str:
        """Never an address: traffic stays on loopback."""
        likely = {
            "path": "likely",
            "command": "true",
            "code": "1",
            "snapshot": "daytona-small",
            "cwd": "/tmp",
            "permissions": "644",
        }
        return (
            self.sandbox
            if name.lower() in ("sandboxid", "sandboxidorname")
            else likely.get(name, "likely")
        )

    def url(self) -> str:
        path = self.operation.path
        prefix = "/api" if self.operation.api == "api" else f"/toolbox/{self.sandbox}"
        query = []
        for parameter in self.operation.parameters:
            name = parameter["name"]
            value = self.of(parameter.get("schema") or parameter, name)
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(as_text(value) or "x", safe=""))
            elif parameter["in"] == "query" and (
                parameter.get("required") or self.dice is not None
            ):
                query.append((name, as_text(value)))
        return prefix + path + ("?" + urlencode(query, errors="replace") if query else "")


def as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="replace").decode()


class Target:
    """A server of its own, and a sandbox that runs, however the last request treated it."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        self._sandbox = ""

    def sandbox(self) -> str:
        """A new one when the last is not as it was made: stopped or deleted."""
        found = self.server.get(self._sandbox) if self._sandbox else None
        if found is None or found["state"] != "started":
            self._sandbox = self.server.create(ephemeral=True)["id"]
        return self._sandbox


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """Its sandboxes, snapshots and volumes are changed at random."""
    with running_server(new_state_dir()) as server:
        yield Target(server)


def send(target: Target, operation: Operation, dice: random.Random | None) -> tuple[str, Reply]:
    values = Values(operation, target.sandbox(), dice)
    url = values.url()
    body = (
        None if operation.body is None else json.dumps(values.of(operation.body, "body")).encode()
    )
    return f"{operation.method} {url} {body!r}", target.server.request(
        operation.method.upper(), url, body=body, headers={"Content-Type": "application/json"}
    )


def is_acceptable(reply: Reply) -> bool:
    """JSON, nothing at all, or a body that by its nature is something else."""
    if (reply.status == 500 and OUR_FAILURE in reply.body) or reply.status >= 600:
        return False
    if not reply.body:
        return reply.status < 400
    kind = reply.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/json":
        json.loads(reply.body)
        return True
    return reply.status < 400 and kind in OTHER_TYPES


@pytest.mark.skipif(
    not DESCRIPTIONS.is_dir(),
    reason="the descriptions lie beside this checkout in development only",
)
@pytest.mark.parametrize("api", ["api", "toolbox"])
def test_nothing_that_the_description_allows_gives_a_500_a_hang_or_html(
    target: Target, api: str
) -> None:
    """Whoever speaks Daytona's API gets an answer a client can read, and the server lives on."""
    dice = random.Random(SEED)
    every = operations(api)
    bad = []
    for operation in every:
        for turn in range(ROUNDS):
            what, reply = send(target, operation, dice if turn else None)
            if not is_acceptable(reply):
                bad.append(
                    f"{reply.status} {reply.headers.get('Content-Type')} {what[:300]} -> "
                    f"{reply.body[:200]!r}"
                )

    assert len(every) >= LEAST_OPERATIONS[api]
    assert bad == []
    assert target.server.exec(target.sandbox(), "echo alive")["result"] == "alive\n"


@pytest.mark.parametrize(
    ("first_line", "status"),
    [
        (f"GET /api/sandbox?name={'x' * 20_000} HTTP/1.1", 200),
        (f"GET /{'x' * 200_000} HTTP/1.1", 400),
        ("nonsense", 400),
        ("GET / HTTP/9", 400),
    ],
    ids=["long", "too long", "nonsense", "version"],
)
def test_what_is_no_http_is_refused_in_json_even_for_a_browser(
    server: LocalServer, first_line: str, status: int
) -> None:
    """The HTTP library's own answers would be text or HTML; a long filter is read."""
    port = int(server.url.rpartition(":")[2])
    headers = (
        f"Host: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {server.api_key}\r\n"
        "Accept: text/html\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{first_line}\r\n{headers}".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")

    assert b" %d " % status in head.splitlines()[0]
    assert b"X-Daytona-Local: 1" in head
    assert b"application/json" in head
    assert json.loads(body)
