"""github.com as the pages need it: one repository over TLS on loopback, found by sandboxes.

The local Daytona that comes with it replaces only the name's address and the dialling of that one
address; the filter, the proxy and git are the real ones, and package indexes are reached as they
are.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import http.server
import ipaddress
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.local_server import LocalServer, new_state_dir, wait_for_server

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAME, ADDRESS = "github.com", "203.0.113.250"  # of a range for documentation, so nobody's
PROJECT = {
    "pyproject.toml": (
        "[build-system]\n"
        'requires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n\n'
        "[project]\n"
        'name = "sampleproject"\n'
        'version = "1"\n'
    ),
    "src/sample/__init__.py": "def add_one(number: int) -> int:\n    return number + 1\n",
    "tests/test_simple.py": (
        "from sample import add_one\n\n\ndef test_add_one() -> None:\n    assert add_one(5) == 6\n"
    ),
}


@dataclasses.dataclass(frozen=True)
class Site:
    """Where it really listens, and the file with its authority."""

    port: int
    authority: Path


class Smart(http.server.BaseHTTPRequestHandler):
    """git's smart protocol by `git http-backend`."""

    def __init__(self, root: Path, authorization: str | None, *words: Any) -> None:
        self.root = root
        self.authorization = authorization
        super().__init__(*words)

    def do_GET(self) -> None:
        if self.authorization and self.headers.get("Authorization") != self.authorization:
            self.send_response(401)
            for name, value in {
                "WWW-Authenticate": "Basic realm=git",
                "Content-Length": "0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        answer = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=variables, check=False
        ).stdout
        head, _, rest = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in {**fields, "Content-Length": str(len(rest))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    do_POST = do_GET  # noqa: N815  the base class names it

    def log_message(self, *_words: Any) -> None:
        """The test's output is not an access log."""


def make_repository(folder: Path) -> Path:
    """pypa/sampleproject, as bare as git serves it."""
    for name, text in PROJECT.items():
        path = folder / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    run(["git", "init", "-q", "-b", "main", "work"])
    run(["git", "-C", "work", "add", "."])
    run(
        [
            "git",
            "-C",
            "work",
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "-q",
            "-m",
            "first",
        ]
    )
    run(["git", "clone", "-q", "--bare", "work", "www/pypa/sampleproject.git"])
    return folder / "www"


@contextlib.contextmanager
def running_site(folder: Path, authorization: str | None = None) -> Iterator[Site]:
    """The site with an authority of its own; it wants that header if one is given."""
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            "key.pem",
            "-out",
            "ca.pem",
            "-subj",
            f"/CN={NAME}",
            "-addext",
            f"subjectAltName=DNS:{NAME}",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    site = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Smart, make_repository(folder), authorization)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    site.socket = context.wrap_socket(site.socket, server_side=True)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        yield Site(site.server_port, folder / "ca.pem")
    finally:
        site.shutdown()
        site.server_close()


@contextlib.contextmanager
def running_server(folder: Path, authorization: str | None = None) -> Iterator[LocalServer]:
    """A local Daytona whose sandboxes find the site and trust it, besides what this host trusts."""
    state = new_state_dir()
    state.mkdir()
    with running_site(folder, authorization) as site:
        bundle = site.authority.with_name("bundle.pem")
        trusted = [Path(os.environ[name]) for name in ("SSL_CERT_FILE",) if name in os.environ]
        bundle.write_text("".join(path.read_text() for path in [*trusted, site.authority]))
        with open(state / "server.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, str(state), str(site.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SSL_CERT_FILE": str(bundle), "PYTHONPATH": str(SCRIPTS.parent)},
            )
        try:
            yield wait_for_server(state, process)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=30)


def serve(state: Path, port: int) -> None:
    """The program: the real server, to which the one name means the site at `port`."""
    sys.path.insert(0, str(SCRIPTS))
    import skill_env
    from local_daytona import lifecycle
    from local_daytona import server as server_module
    from local_daytona.egress.policy import Address
    from local_daytona.egress.upstream import Upstream, dial

    real = Upstream.of_this_host(os.environ, ())

    async def resolve(name: str) -> list[Address]:
        return [ipaddress.ip_address(ADDRESS)] if name == NAME else await real.resolve(name)

    async def dial_site(address: Address, wanted: int) -> socket.socket:
        return (
            await dial(ipaddress.ip_address("127.0.0.1"), port)
            if str(address) == ADDRESS
            else await real.dial(address, wanted)
        )

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    with lifecycle.locked(state):
        settings = server_module.Settings(state, skill_env.server_version())
        asyncio.run(
            server_module.serve(
                settings, dataclasses.replace(real, resolve=resolve, dial=dial_site)
            )
        )


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(json.loads(sys.argv[2])))
