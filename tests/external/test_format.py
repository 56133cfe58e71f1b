"""Validators of other projects on a copy of the skill under its own name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import tools
from .conftest import ROOT, copy_tracked

TOOLS = tools.FOLDER  # filled by .ci/run
# Issue B adds here: `claude plugin validate`, `npx skills add --list`, skill-check, markdownlint, and the real CLI.


@pytest.fixture(scope="module")
def skill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named as the skill, because validators compare the names."""
    folder = tmp_path_factory.mktemp("skills") / "daytona-sandbox"
    copy_tracked(folder)
    return folder


def test_the_agent_skills_validator_accepts_it(skill: Path) -> None:
    """skills-ref, the specification's own."""
    tool = TOOLS / "bin" / "agentskills"
    assert tool.exists(), "run .ci/run, which installs it"
    done = subprocess.run([str(tool), "validate", str(skill)], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validator_would_notice(skill: Path, tmp_path: Path) -> None:
    """A validator that accepts anything proves nothing."""
    broken = tmp_path / "daytona-sandbox"
    broken.mkdir()
    (broken / "SKILL.md").write_text((skill / "SKILL.md").read_text().replace("name: daytona-sandbox", "name: Wrong_Name"))
    done = subprocess.run([str(TOOLS / "bin" / "agentskills"), "validate", str(broken)], capture_output=True, timeout=120, check=False)

    assert done.returncode != 0


def test_this_suite_runs_in_the_clones_environment() -> None:
    """Not in some other Python that happens to have the packages."""
    assert Path(sys.prefix) == ROOT / ".venv"
