"""What the pages say of other programs has a source, a date and a check; what can be run is run."""

from __future__ import annotations

import ast
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import daytona
import pytest

from tests.benchmarks.fanout import certificate
from tests.benchmarks.instant import Instant
from tests.serving import serving

from .outside_facts import FACTS, READ, Fact
from .pages import FENCE, ROOT

PAGES = [ROOT / "SKILL.md", ROOT / "README.md", *sorted((ROOT / "reference").glob("*.md"))]
OUTSIDE = re.compile(
    r"Claude Code|claude -p|client asks|\bMCP\b|\bCLI\b(?! ONLY)|Tiers? \d|[Dd]ashboard"
    r"|[Ii]n the cloud|[Tt]he cloud(?:'s| makes)|Bash call|Node 22|by the clock"
)
# Of our own tools, or no statement: words of a line that needs no row.
OURS = (
    "Claude Code, as a",
    "| situation | use |",
    "| a desktop, or no shell | MCP |",
    "| only a CLI login |",
    "in the cloud the organization's tier",
    "read in `reference/`",
    "In the cloud only, so a test on local Daytona does not find it",
    "All here is for SDK and CLI 0.x",
)
WITHOUT_TRANSLATION = {
    *("process.code_run", "snapshot.activate", "snapshot.process_image_context"),
    *(f"secret.{name}" for name in ("list", "get", "create", "update", "delete")),
    *(f"warm_pool.{name}" for name in ("list", "create", "update", "delete")),
}


def lines_about_others(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text())
    return [
        line
        for line in text.splitlines()
        if OUTSIDE.search(line) and not line.startswith("#") and not any(o in line for o in OURS)
    ]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.page}: {fact.words[:30]}")
def test_a_fact_is_on_its_page_with_a_source_and_a_check_that_exists(fact: Fact) -> None:
    """Whoever changes the sentence finds its row; whoever removes the test finds the sentence."""
    assert fact.words in (ROOT / fact.page).read_text()
    assert fact.source
    assert date(2026, 1, 1) <= date.fromisoformat(fact.date)
    if fact.check != READ:
        file, _, name = fact.check.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_a_page_says_of_others_has_a_row(page: Path) -> None:
    """By line: a sentence about the cloud, its CLI, its MCP server or Claude Code."""
    words = [fact.words for fact in FACTS if ROOT / fact.page == page]

    assert [line for line in lines_about_others(page) if not any(w in line for w in words)] == []


def test_lines_about_others_are_found() -> None:
    """An empty extraction would pass everything above."""
    assert sum(len(lines_about_others(page)) for page in PAGES) >= 20


def untranslated(folder: Path) -> Iterator[str]:
    """Public calls of the SDK that reach an API without a translation of its errors."""
    for file in sorted(folder.glob("*.py")):
        for found in ast.walk(ast.parse(file.read_text())):
            if not isinstance(found, ast.FunctionDef) or found.name.startswith("_"):
                continue
            decorators = " ".join(ast.unparse(each) for each in found.decorator_list)
            is_call = "with_instrumentation" in decorators and "_api" in ast.unparse(found)
            if is_call and "intercept" not in decorators:
                yield f"{file.stem}.{found.name}"


def test_which_calls_let_raw_errors_through() -> None:
    """As reference/sandboxes.md names them; `create_lsp_server` only makes an object."""
    found = set(untranslated(Path(daytona.__file__).parent / "_sync"))

    assert found - {"sandbox.create_lsp_server"} == WITHOUT_TRANSLATION


@contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the addresses that were asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


SYNCHRONOUS = """
from daytona import Daytona
try:
    print(Daytona().get("{0}").id)
except Exception as error:
    print(type(error).__name__, error)
"""
ASYNCHRONOUS = """
import asyncio
from daytona import AsyncDaytona
async def main():
    async with AsyncDaytona() as client:
        try:
            print((await client.get("{0}")).id)
        except Exception as error:
            print(type(error).__name__, error)
asyncio.run(main())
"""


def said_by(program: str, sandbox_id: str, **environ: str) -> str:
    """What a program of the SDK's prints that knows nothing of this machine's network."""
    own = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DAYTONA_API_KEY": "dtn_0123456789"}
    done = subprocess.run(
        [sys.executable, "-c", program.format(sandbox_id)],
        env={**own, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.thorough
def test_the_synchronous_client_goes_around_a_proxy() -> None:
    """So behind one a program is to be written with the other."""
    with recording_proxy() as (address, asked):
        environ = {"http_proxy": address, "DAYTONA_API_URL": "http://daytona.invalid/api"}
        around = said_by(SYNCHRONOUS, "first", **environ)
        before = list(asked)
        said_by(ASYNCHRONOUS, "second", **environ)

    assert "DaytonaError" in around
    assert (before, asked) == ([], ["http://daytona.invalid/api/sandbox/second"])


@pytest.mark.thorough
def test_both_clients_trust_a_companys_authority(tmp_path: Path) -> None:
    """By the variable that the page names, and not without it."""
    with certificate(tmp_path) as (context, bundle):
        instant = Instant()
        with serving(instant.handle, tls=context) as instant.url:
            environ = {"DAYTONA_API_URL": f"{instant.url}/api"}
            without = [said_by(each, "s0", **environ) for each in (SYNCHRONOUS, ASYNCHRONOUS)]
            environ["SSL_CERT_FILE"] = bundle
            with_it = [said_by(each, "s0", **environ) for each in (SYNCHRONOUS, ASYNCHRONOUS)]

    assert all("CERTIFICATE_VERIFY_FAILED" in said for said in without)
    assert not any("Error" in said for said in with_it)
