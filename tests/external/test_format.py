"""Validators of other projects on a copy of the skill under its own name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from . import tools
from .conftest import ROOT, copy_tracked


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T/skills with the skill in a folder of its own name.

    The only place where `claude plugin validate` really reads SKILL.md.
    """
    folder = tmp_path_factory.mktemp("validators") / "skills"
    copy_tracked(folder / "daytona-sandbox")
    return folder


@pytest.fixture
def broken(skills: Path, tmp_path: Path) -> Path:
    """A skill whose front matter no validator should like."""
    folder = tmp_path / "skills" / "daytona-sandbox"
    folder.mkdir(parents=True)
    text = (skills / "daytona-sandbox" / "SKILL.md").read_text()
    (folder / "SKILL.md").write_text(
        text.replace("name: daytona-sandbox", "name: Wrong_Name: [").replace("license:", "licence:")
    )
    return folder


def check(command: Sequence[str | Path], home: Path, *, cwd: Path | None = None) -> tuple[int, str]:
    """Exit code and output of a validator, in a home of its own."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd or home,
        env={**tools.node_environment(), "HOME": str(home), "CI": "1", "DISABLE_TELEMETRY": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout + done.stderr)


def agentskills(skill: Path) -> list[str | Path]:
    return [tools.FOLDER / "bin" / "agentskills", "validate", skill]


def as_a_plugin(skill: Path) -> list[str | Path]:
    return [tools.claude_code(), "plugin", "validate", "--strict", "--profile", "directory", skill]


def as_skills(skill: Path) -> list[str | Path]:
    return [tools.claude_code(), "plugin", "validate", "--strict", skill.parent]


def skill_check(skill: Path) -> list[str | Path]:
    return [tools.node_tool("skill-check"), "check", skill, "--no-security-scan"]


@pytest.mark.parametrize(
    "validator",
    [agentskills, as_a_plugin, as_skills, skill_check],
    ids=lambda found: found.__name__,
)
def test_the_validator_accepts_it(validator: type, skills: Path, tmp_path: Path) -> None:
    """The specification's, the plugin directory's, Claude Code's for skills, and skill-check."""
    code, said = check(validator(skills / "daytona-sandbox"), tmp_path)

    assert code == 0, said
    assert not re.search(r"[1-9]\d* (plugin directory )?warning", said), said


@pytest.mark.parametrize(
    "validator",
    [agentskills, as_a_plugin, as_skills, skill_check],
    ids=lambda found: found.__name__,
)
def test_the_validator_would_notice(validator: type, broken: Path, tmp_path: Path) -> None:
    """A validator that accepts anything proves nothing."""
    code, said = check(validator(broken), tmp_path)

    assert code != 0, said


def test_the_skills_installer_finds_it(skills: Path, tmp_path: Path) -> None:
    """npx skills add PATH --list: one skill, with its description."""
    code, said = check(
        [tools.node_tool("skills"), "add", skills / "daytona-sandbox", "--list"], tmp_path
    )

    assert code == 0, said
    assert "daytona-sandbox" in said
    assert "Found 1 skill" in said


def test_markdownlint_is_content(tmp_path: Path) -> None:
    """Every page, by the rules of .markdownlint-cli2.jsonc."""
    code, said = check([tools.node_tool("markdownlint-cli2")], tmp_path, cwd=ROOT)

    assert code == 0, said
    assert "Linting: 0 files" not in said


def test_this_suite_runs_in_the_clones_environment() -> None:
    """Not in some other Python that happens to have the packages."""
    assert Path(sys.prefix) == ROOT / ".venv"
