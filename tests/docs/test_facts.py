"""What the prose states of the SDK and our code: names, keywords, defaults, kinds, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import daytona
import pytest

from sandbox_kit.defaults import (
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_MIN,
    KEPT_TTL_MIN,
)
from sandbox_kit.errors import KINDS, TIMED_OUT, TOOL_FAILED
from sandbox_kit.ownership import MANAGED_BY, MANAGER, RUN_ID
from sandbox_kit.remote_process import LAUNCH

from .pages import FENCE, ROOT, blocks, body, pages
from .sdk_names import sdk_names

PYTHON = [block for block in blocks() if block.tag == "python"]
PROSE = {page: body(page) for page in pages()}
NOT_THE_SDK = {"filter", "return_exceptions"}  # of tarfile and of asyncio
DELIBERATELY_WRONG = {"network_block_al"}  # the page shows that a misspelling has no effect
NAME_IN_PROSE = re.compile(
    r"(?:\b(?:sandbox|daytona|process|fs|volume|snapshot|git)|^)\.([a-z_]+)"
    r"|^([a-z]+_[a-z_]+)\("
)
WRONG_SNIPPET = """\
from daytona import CreateSandboxFromSnapshotParams, Daytona
sandbox = Daytona().create(CreateSandboxFromSnapshotParams(network_block_al=True))
sandbox.process.exec("true", timeot=1)
sandbox.no_such_method()
"""


def type_errors(folder: Path) -> list[str]:
    """What mypy says of the snippets in `folder`, against the installed SDK's own types."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file=",
            "--cache-dir",
            str(folder / "cache"),
            "--ignore-missing-imports",
            *sorted(folder.glob("*.py")),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


def test_there_is_something_to_check() -> None:
    """An empty extraction would pass everything below."""
    assert len(PYTHON) >= 8
    assert len(sdk_names()) > 1000


@pytest.mark.thorough
def test_every_snippet_fits_the_sdks_types(tmp_path: Path) -> None:
    """No snippet passes a keyword that the SDK does not know.

    It drops those silently, so a snippet that runs proves nothing; and some cannot run here.
    """
    for block in PYTHON:
        (tmp_path / re.sub(r"\W", "_", f"{block.page}_{block.line}")).with_suffix(".py").write_text(
            block.text
        )
    (tmp_path / "wrong.py").write_text(WRONG_SNIPPET)
    errors = type_errors(tmp_path)

    assert [line for line in errors if not line.startswith("wrong.py")] == []
    assert {line.split(":")[1] for line in errors} == {"2", "3", "4"}  # the check itself can fail


def spoken_attributes() -> Iterator[str]:
    """`sandbox.x`, `daytona.x`, `process.x`, `.x` and calls in inline code."""
    for text in PROSE.values():
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
            if "/" in code or "--" in code:  # a path or a command
                continue
            for match in NAME_IN_PROSE.finditer(code):
                yield match[1] or match[2]


def test_every_attribute_in_the_prose_exists() -> None:
    """Names in running text rot first."""
    spoken = set(spoken_attributes())

    assert len(spoken) > 20
    assert spoken - sdk_names() - {"env", "ci", "gitignore", "json", "txt", "xml"} == set()


def test_every_class_in_the_prose_exists() -> None:
    """Error classes above all."""
    spoken = {
        name
        for text in PROSE.values()
        for name in re.findall(
            r"\b((?:Async)?Daytona[A-Z]\w+|Create\w+Params|\w+Request|\w+Query)\b", text
        )
    }

    assert len(spoken) > 10
    assert {name for name in spoken if not hasattr(daytona, name)} == set()


def test_every_keyword_in_the_prose_exists() -> None:
    """`name=` in inline code is a parameter of the SDK."""
    code = [
        code
        for text in PROSE.values()
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        if "--" not in code
    ]
    spoken = {name for text in code for name in re.findall(r"(?<![\w-])([a-z_]+)=", text)}

    assert len(spoken) > 15
    assert spoken - sdk_names() - DELIBERATELY_WRONG - NOT_THE_SDK == set()


def test_the_table_of_kinds_is_the_codes() -> None:
    """Each kind has one row, and no other kind is named; exit codes other than 125 stand in it."""
    text = (ROOT / "reference" / "troubleshooting.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", text, re.MULTILINE))

    assert list(rows) == list(KINDS)
    for kind, meaning in rows.items():
        stated = re.match(r"([\d, ]+): ", meaning)
        assert str(KINDS[kind].exit_code) in (stated[1].split(", ") if stated else ["125"]), kind


def number_after(page: str, words: str) -> str:
    match = re.search(re.escape(words) + r"\s*([\d,]+)", (ROOT / page).read_text())
    assert match is not None, words
    return match[1].replace(",", "")


def test_defaults_in_the_prose_are_the_codes() -> None:
    """A number has its source in the code."""
    skill = (ROOT / "SKILL.md").read_text()

    assert number_after("SKILL.md", "`--timeout` (default") == str(DEFAULT_TIMEOUT_S)
    assert f"{DEFAULT_MAX_OUTPUT:,} characters a stream" in skill
    assert f"ttl ({DEFAULT_TTL_MIN} minutes)" in skill
    readme = (ROOT / "README.md").read_text()
    ttl = f"ttl ({DEFAULT_TTL_MIN} minutes; {KEPT_TTL_MIN} when you keep it)"
    assert ttl in readme
    assert f"own codes: {TIMED_OUT}, killed after" in skill
    assert f"; {TOOL_FAILED}, the tool or Daytona failed" in skill


def test_bounds_of_the_local_engine_in_the_prose_are_the_codes() -> None:
    """reference/local.md states them."""
    from local_daytona.api.sandboxes import timers
    from local_daytona.api.snapshots import service as snapshots
    from local_daytona.isolation import limits
    from local_daytona.toolbox import process
    from local_daytona.toolbox.sessions import log

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

    assert f"{MANAGED_BY}={MANAGER}" in readme
    assert f"`{RUN_ID}`" in readme
    assert LAUNCH.startswith("chmod -R go= {folder}\n")
