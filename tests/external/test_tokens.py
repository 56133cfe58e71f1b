"""The token budgets of SKILL.md and its pages, by the tokenizer of older Claude models.

An estimate: today's models count about a third more.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, body, front_matter

from . import tools

DESCRIPTION, GUIDE, PAGE, ALL_PAGES, HELP = 110, 1900, 1200, 8000, 1050
COUNTER = Path(__file__).with_name("node") / "count_tokens.cjs"


def count(texts: list[str]) -> list[int]:
    done = subprocess.run(
        [str(tools.FOLDER / "bin" / "node"), str(COUNTER)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**tools.node_environment(), "NODE_PATH": str(tools.NODE_FOLDER / "node_modules")},
    )
    counts: list[int] = json.loads(done.stdout)
    return counts


def description() -> str:
    found = re.search(
        r"^description: >-\n((?:  .+\n)+)", front_matter(ROOT / "SKILL.md"), re.MULTILINE
    )
    assert found is not None
    return " ".join(found[1].split())


@pytest.fixture(scope="module")
def tokens() -> dict[str, int]:
    """Counts by name: description, guide, --help, and each reference page."""
    pages = sorted((ROOT / "reference").glob("*.md"))
    script = [sys.executable, str(ROOT / "scripts" / "run_in_sandbox.py"), "--help"]
    texts = {
        "description": description(),
        "guide": body(ROOT / "SKILL.md"),
        "help": subprocess.check_output(script, text=True),
        **{page.stem: page.read_text() for page in pages},
    }
    return dict(zip(texts, count(list(texts.values())), strict=True))


def test_the_counter_counts() -> None:
    """A counter that says nothing would pass every budget."""
    assert count(["hello world", "hello world " * 100])[1] > 100


def test_what_every_session_pays_is_small(tokens: dict[str, int]) -> None:
    """The description is in the listing of every session."""
    assert tokens["description"] <= DESCRIPTION


def test_the_guide_and_the_help_are_within_their_budgets(tokens: dict[str, int]) -> None:
    """Paid when the skill loads, and when a model asks for the flags."""
    assert tokens["guide"] <= GUIDE
    assert tokens["help"] <= HELP


def test_reference_pages_are_within_theirs(tokens: dict[str, int]) -> None:
    """Each alone, and all together."""
    pages = {
        name: found
        for name, found in tokens.items()
        if name not in ("description", "guide", "help")
    }

    assert len(pages) == 7
    assert {name: found for name, found in pages.items() if found > PAGE} == {}
    assert sum(pages.values()) <= ALL_PAGES, pages


def test_the_readme_states_what_was_measured(tokens: dict[str, int]) -> None:
    """Its figures for this skill are of today."""
    readme = (ROOT / "README.md").read_text()
    largest = max(
        found for name, found in tokens.items() if name not in ("description", "guide", "help")
    )

    assert f"| always in context | {tokens['description']} |" in readme
    assert f"| when it is used | {tokens['guide']:,} |" in readme
    assert f"| one reference page | at most {largest:,} |" in readme
