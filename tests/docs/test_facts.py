"""What the prose states of the SDK and of our own code: names, keywords, defaults, kinds, exit codes."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator

import daytona
import pytest
from daytona._sync.filesystem import FileSystem
from daytona._sync.process import Process

from sandbox_kit import execution, failures, lease, options
from sandbox_kit.failures import KINDS

from .pages import ROOT, Block, blocks, body, pages

PYTHON = [block for block in blocks() if block.tag == "python"]
PROSE = {page: body(page) for page in pages()}
# Classes whose methods and attributes the pages may speak of.
SPOKEN_OF = (
    daytona.Daytona, daytona.AsyncDaytona, daytona.Sandbox, Process, FileSystem, daytona.CreateSandboxFromSnapshotParams,
    daytona.CreateSandboxFromImageParams, daytona.DaytonaError, daytona.SessionExecuteRequest, daytona.ListSandboxesQuery, daytona.ExecuteResponse,
    daytona.Resources, daytona.CodeRunParams,
)  # fmt: skip


def known_names() -> set[str]:
    """Every attribute, field and parameter that those classes have."""
    found: set[str] = set()
    for cls in SPOKEN_OF:
        found |= {name for name in dir(cls) if not name.startswith("_")}
        found |= set(getattr(cls, "model_fields", {}))
        found |= set(inspect.signature(cls).parameters)
        for _, member in inspect.getmembers(cls, callable):
            try:
                found |= set(inspect.signature(member).parameters)
            except (ValueError, TypeError):
                continue
    found |= {"message", "status_code", "code", "cmd_id", "exit_code", "result", "stdout", "stderr"}
    return found | set(inspect.signature(asyncio.gather).parameters)


def test_there_is_something_to_check() -> None:
    """An empty extraction would pass everything below."""
    assert len(PYTHON) >= 5
    assert len(known_names()) > 100


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_every_keyword_in_a_snippet_exists(block: Block) -> None:
    """The SDK drops unknown keywords silently, so a snippet that runs proves nothing about them."""
    names = known_names()
    calls = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Call)]

    assert calls
    for call in calls:
        for keyword in call.keywords:
            assert keyword.arg in names, keyword.arg


def spoken_attributes() -> Iterator[tuple[str, str]]:
    """(page, name) of `sandbox.x`, `daytona.x`, `process.x`, `.x` in inline code."""
    for page, text in PROSE.items():
        for code in re.findall(r"`([^`\n]+)`", text):
            for match in re.finditer(r"(?:\b(?:sandbox|daytona|process|fs)|^)\.([a-z_]+)", code):
                yield str(page.relative_to(ROOT)), match[1]


def test_every_attribute_in_the_prose_exists() -> None:
    """Names in running text rot first."""
    names = known_names() | {"process", "fs", "git", "env", "ci"}
    spoken = list(spoken_attributes())

    assert len(spoken) > 10
    assert {name for _, name in spoken if name not in names} == set()


def test_every_class_in_the_prose_exists() -> None:
    """Error classes above all."""
    spoken = {
        name for text in PROSE.values() for name in re.findall(r"\b((?:Async)?Daytona[A-Z]\w+|Create\w+Params|\w+Request|\w+Query)\b", text)
    }

    assert len(spoken) > 10
    assert {name for name in spoken if not hasattr(daytona, name)} == set()


def test_every_keyword_in_the_prose_exists() -> None:
    """`name=` in inline code is a parameter of the SDK."""
    spoken = {
        name for text in PROSE.values() for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"(?<![\w-])([a-z_]+)=", code)
    }
    deliberately_wrong = {"network_block_al"}  # the page shows that a misspelling has no effect

    assert spoken - known_names() - deliberately_wrong == {"follow"} & spoken


def test_the_table_of_kinds_is_the_codes() -> None:
    """Each kind has one row with its exit code, and no other kind is named."""
    text = (ROOT / "reference" / "troubleshooting.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([0-9, ]+) \|", text, re.MULTILINE))

    assert list(rows) == list(KINDS)
    for kind, codes in rows.items():
        assert str(KINDS[kind].exit_code) in codes.split(", "), kind


def number_after(page: str, words: str) -> str:
    match = re.search(re.escape(words) + r"\s*([\d,]+)", (ROOT / page).read_text())
    assert match is not None, words
    return match[1].replace(",", "")


def test_defaults_in_the_prose_are_the_codes() -> None:
    """A number has its source in the code."""
    skill = (ROOT / "SKILL.md").read_text()

    assert number_after("SKILL.md", "`--timeout` (default") == str(options.DEFAULT_TIMEOUT_S)
    assert f"{options.DEFAULT_MAX_OUTPUT:,} characters a stream" in skill
    assert f"ttl ({options.DEFAULT_TTL_MIN} minutes)" in skill
    assert f"ttl ({options.DEFAULT_TTL_MIN} minutes; {options.KEPT_TTL_MIN} when you keep it)" in (ROOT / "README.md").read_text()
    assert f"| {failures.TIMED_OUT} |" in skill
    assert f"| {failures.TOOL_FAILED} |" in skill


def test_bounds_of_the_local_engine_in_the_prose_are_the_codes() -> None:
    """reference/local.md states them."""
    from local_daytona.control import snapshots, timers
    from local_daytona.engine import limits
    from local_daytona.toolbox import log, process

    text = (ROOT / "reference" / "local.md").read_text()

    assert f"{process.OUTPUT_LIMIT >> 20} MiB; of one session command {log.LIMIT >> 20} MiB" in text
    assert f"{limits.PROCESSES_PER_SANDBOX} processes" in text
    assert "After ten minutes" in text
    assert timers.IDLE_MINUTES == 10
    for name, size in snapshots.SEEDED.items():
        assert name in text
        page = (ROOT / "reference" / "sandboxes.md").read_text()
        assert name in page
        assert any(f"({size.cpu}{unit}, {size.memory}" in page for unit in ("", " vCPU")), name


def test_labels_and_folders_in_the_prose_are_the_codes() -> None:
    """What a user greps for."""
    readme = (ROOT / "README.md").read_text()

    assert f"{lease.MANAGED_BY}={lease.MANAGER}" in readme
    assert f"`{lease.RUN_ID}`" in readme
    assert execution.LAUNCH.startswith("chmod 600")
