"""The comparison with AsyncDaytona by the oldest SDK of the range and the newest on the index."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daytona._async.daytona
import pydantic
import pytest
from packaging.requirements import Requirement

import sandbox_kit.sdk.generated
import skill_env
import skill_install
from tests.benchmarks.instant import Instant, running_instant

from . import sdk_range
from .conftest import ROOT

[COMPARISON] = ROOT.glob("tests/*/test_sdk.py")
RANGE = Requirement(sdk_range.sdk_requirement()).specifier
COMPARISON_TIMEOUT_S = 600
# Calls of ours that send a body, and the generated class that it is made from.
BODIES = {
    "create": "CreateSandbox",
    "exec": "ExecuteRequest",
    "restrict": "UpdateSandboxNetworkSettings",
    "session": "CreateSessionRequest",
    "start a command": "SessionExecuteRequest",
}
OURS, THEIRS = sandbox_kit.sdk.generated, daytona._async.daytona


def run_python(python: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    """In the clone, without what this environment's variables say."""
    hidden = ("DAYTONA_", "PYTHON", "VIRTUAL_ENV")
    return subprocess.run(
        [str(python), *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        capture_output=True,
        text=True,
        timeout=COMPARISON_TIMEOUT_S,
        check=False,
    )


def version_in(folder: Path) -> str:
    """Of the SDK that a program in that environment imports."""
    program = "import daytona, importlib.metadata; print(importlib.metadata.version('daytona'))"
    try:
        done = run_python(skill_env.python_of(folder), "-I", "-c", program)
    except FileNotFoundError:
        pytest.fail(f"{folder} is missing: python3 -m tests.external.tools makes it")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The ids of the comparison's tests, as this environment has them."""
    done = run_python(sys.executable, "-m", "pytest", "--collect-only", "-q", str(COMPARISON))
    return {line for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize("folder", [sdk_range.OLDEST, sdk_range.NEWEST], ids=lambda at: at.name)
def test_every_call_of_ours_is_that_sdks_own(
    folder: Path, collected: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the comparison passes there, none of it left out; the output says which SDK it was."""
    version = version_in(folder)
    origin = sdk_range.NOTE.read_text() if folder == sdk_range.NEWEST else "locked"
    with capsys.disabled():
        print(f"\ncompared with the {folder.name} SDK, {version}: {origin}")
    # A warning of a library that came with that SDK is no difference.
    words = "-m pytest -q -rfEspP --tb=short -W default".split()
    done = run_python(skill_env.python_of(folder), *words, str(COMPARISON))

    assert version in RANGE
    assert done.returncode == 0, done.stdout + done.stderr
    assert collected
    assert set(re.findall(r"^PASSED (.+)$", done.stdout, re.MULTILINE)) == collected


def test_the_oldest_is_the_ranges_lower_end() -> None:
    """Who moves the range makes its lock anew."""
    [lower] = [bound.version for bound in RANGE if bound.operator == ">="]

    assert Requirement(f"daytona=={lower}").specifier.contains(version_in(sdk_range.OLDEST))


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_without_an_index_the_newest_that_is_installed_goes_on(
    no_index: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the note says so; with nothing installed the tools fail."""
    lock = tmp_path / "newest.lock"
    monkeypatch.setattr(sdk_range, "NEWEST_LOCK", lock)
    with pytest.raises(skill_install.InstallFailed):
        sdk_range.renew_lock()
    lock.write_text("as it was")

    assert "could not be asked" in sdk_range.renew_lock()
    assert lock.read_text() == "as it was"


def test_a_newer_sdk_on_the_index_makes_the_lock_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only that does: everything else that is newer waits for it."""
    index = {"daytona": "daytona==0.226.1 --hash=sha256:1", "other": "other==1 --hash=sha256:1"}

    def resolve(wanted: list[str], *options: str) -> list[str]:
        return [index["daytona"]] if "--no-deps" in options else list(index.values())

    monkeypatch.setattr(sdk_range, "NEWEST_LOCK", tmp_path / "newest.lock")
    monkeypatch.setattr(sdk_range, "resolve", resolve)
    sdk_range.renew_lock()
    first = sdk_range.lines_of(sdk_range.NEWEST_LOCK)
    index["other"] = "other==2 --hash=sha256:2"
    sdk_range.renew_lock()
    second = sdk_range.lines_of(sdk_range.NEWEST_LOCK)
    index["daytona"] = "daytona==0.227.0 --hash=sha256:2"
    sdk_range.renew_lock()

    assert second == first
    assert sdk_range.lines_of(sdk_range.NEWEST_LOCK)[1:] == list(index.values())


@pytest.fixture(scope="module")
def instant() -> Iterator[Instant]:
    with running_instant() as found:
        yield found


def shorter(model: Any) -> Any:
    """The generated class, but its last field is not sent."""
    made: Any = pydantic.create_model("Shorter", __base__=model)
    made.to_dict = lambda self: dict(list(model.to_dict(self).items())[:-1])
    return made


def later(model: Any) -> Any:
    """The generated class with a field more, whose default is sent."""
    return pydantic.create_model("Later", __base__=model, laterField=(bool, True))


@pytest.mark.parametrize(
    ("name", "module", "change"),
    [
        *((name, OURS, shorter) for name in BODIES),
        ("create", OURS, later),
        ("create", THEIRS, later),
    ],
    ids=lambda found: getattr(found, "__name__", found),
)
def test_the_comparison_would_notice(
    name: str, module: Any, change: Any, instant: Instant, tmp_path: Path, monkeypatch: Any
) -> None:
    """A call of ours that drops a field; a new field whose default only one side sends."""
    comparison: Any = importlib.import_module(f"tests.{COMPARISON.parent.name}.{COMPARISON.stem}")
    compare = comparison.test_a_call_of_ours_sends_what_the_sdk_sends
    compare(instant, tmp_path, monkeypatch, name)
    monkeypatch.setattr(module, BODIES[name], change(getattr(module, BODIES[name])))

    with pytest.raises(AssertionError, match="=="):
        compare(instant, tmp_path, monkeypatch, name)
