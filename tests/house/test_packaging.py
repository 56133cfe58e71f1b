"""The zip for claude.ai; the version, set by one command in every file that repeats it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

import build_zip  # noqa: E402  (the folder above must come first)
import set_version  # noqa: E402


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The skill as claude.ai unpacks it."""
    with zipfile.ZipFile(build_zip.build(tmp_path / "dist")) as archive:
        archive.extractall(tmp_path / "there")
    return tmp_path / "there" / "daytona-sandbox"


def test_the_zip_holds_what_a_skill_needs_and_nothing_else(unpacked: Path) -> None:
    """One folder, named as the skill; no tests, no evals, no caches; well below 30 MB."""
    names = [
        path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()
    ]

    assert [path.name for path in unpacked.parent.iterdir()] == ["daytona-sandbox"]
    assert {name.split("/")[0] for name in names} == {
        "SKILL.md",
        "LICENSE",
        "reference",
        "examples",
        "scripts",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert sum(path.stat().st_size for path in unpacked.rglob("*") if path.is_file()) < 2_000_000


def test_what_the_server_gives_its_sandboxes_is_in_the_zip(unpacked: Path) -> None:
    """Without these no sandbox of the local engine starts."""
    inside = Path("scripts/local_daytona/isolation/programs")
    here = sorted(path.name for path in (build_zip.ROOT / inside).iterdir())

    assert sorted(path.name for path in (unpacked / inside).iterdir()) == here
    assert here


def test_the_guides_links_and_scripts_are_in_the_zip(unpacked: Path) -> None:
    """What SKILL.md names must be there."""
    text = (unpacked / "SKILL.md").read_text()
    named = set(re.findall(r"\]\(([a-z/-]+\.md)\)", text)) | set(
        re.findall(r"(scripts/\w+\.py)", text)
    )
    tasks = re.search(r"`examples/NAME.md`: (.+)\.", text)
    assert tasks is not None
    named |= {f"examples/{name}.md" for name in tasks[1].split(", ")}

    assert len(named) > 12
    assert [name for name in named if not (unpacked / name).exists()] == []


def test_a_script_of_the_zip_starts(unpacked: Path) -> None:
    """Without the execute bit, without the clone around it."""
    done = subprocess.run(
        [sys.executable, str(unpacked / "scripts" / "run_in_sandbox.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0
    assert "--snapshot" in done.stdout


def test_the_zip_is_the_same_every_time(tmp_path: Path) -> None:
    """So that two builds of one commit can be compared."""
    first, second = (build_zip.build(tmp_path / name).read_bytes() for name in ("a", "b"))

    assert first == second


def test_one_command_sets_the_version_everywhere(tmp_path: Path) -> None:
    """And test_house fails when somebody edits one place by hand."""
    for name, _ in set_version.PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    set_version.set_version("9.8.7", tmp_path)

    for name, _ in set_version.PLACES:
        assert (tmp_path / name).read_text().count("9.8.7") == 1


@pytest.mark.parametrize("words", [[], ["1.2"], ["v1.2.3"], ["1.2.3", "4"]], ids=str)
def test_a_wrong_version_changes_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage, and exit code 2."""
    assert set_version.main(words) == 2
    assert "X.Y.Z" in capsys.readouterr().err


def requirements(text: str, opening: str) -> list[str]:
    """The strings of the list that begins with `opening`."""
    match = re.search(rf"^{re.escape(opening)}\[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert match is not None, opening
    found = [
        plain or single
        for plain, single in re.findall(r'^\s*(?:"([^"]+)"|\'([^\']+)\'),', match[1], re.MULTILINE)
    ]
    assert found
    return found


@pytest.mark.parametrize("script", ["healthcheck", "run_in_sandbox", "sandboxes"])
def test_a_script_carries_the_projects_requirements(script: str) -> None:
    """`uv run SCRIPT` installs what its PEP 723 header says: all of pyproject's ranges."""
    project = (ROOT / "pyproject.toml").read_text()
    header = re.search(
        r"^# /// script\n((?:#.*\n)+?)# ///$",
        (ROOT / "scripts" / f"{script}.py").read_text(),
        re.MULTILINE,
    )
    assert header is not None
    text = re.sub(r"^# ?", "", header[1], flags=re.MULTILINE)
    python = re.search(r'^requires-python = ".+"$', project, re.MULTILINE)

    assert python is not None
    assert python[0] in text
    assert requirements(text, "dependencies = ") == requirements(
        project, "dependencies = "
    ) + requirements(project, "local = ")
