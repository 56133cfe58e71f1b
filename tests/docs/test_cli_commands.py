"""Every `daytona` command in the pages is one that the CLI has, with flags that it takes."""

from __future__ import annotations

import re
import shlex

import pytest

from .daytona_cli import COMMANDS, EVERY
from .pages import ROOT, body, pages

# At the start of a line, after the shell's separators, or at the start of inline code.
SPOKEN = re.compile(r"(?:^|`|&& |; |\| |-- )daytona +([a-z][^`\n#]*)", re.MULTILINE)
GONE = {"sandbox …"}  # named as what not to type


def spoken() -> list[tuple[str, str]]:
    """(page, what follows `daytona`)."""
    found = []
    for page in pages():
        text = re.sub(r"^(from|import) .*$", "", body(page), flags=re.MULTILINE)
        found += [
            (str(page.relative_to(ROOT)), match[1].strip())
            for match in SPOKEN.finditer(text)
            if not match[1].startswith(("=", "0"))
        ]
    return found


def problem(words: str) -> str | None:
    """What is wrong with a command line, None when nothing is."""
    parts = shlex.split(words.split(" <")[0].split(" -- ")[0])
    name = next((known for known in (" ".join(parts[:2]), parts[0]) if known in COMMANDS), None)
    if name is None:
        return f"no such command: {words}"
    wrong = [
        word for word in parts if word.startswith("-") and word not in (*COMMANDS[name], *EVERY)
    ]
    return f"{name} does not take {wrong}" if wrong else None


def test_there_are_commands_to_check() -> None:
    """An empty extraction would pass everything below."""
    assert len(spoken()) >= 10
    assert len({words.split()[0] for _, words in spoken()}) >= 6


@pytest.mark.parametrize(("page", "words"), spoken(), ids=lambda value: value[:40])
def test_the_cli_has_what_the_pages_show(page: str, words: str) -> None:
    """A command that does not exist costs the reader a search."""
    assert words in GONE or problem(words) is None, page


@pytest.mark.parametrize("words", ["sandbox list", "create --auto-start 5", "mcp run"])
def test_a_wrong_command_would_be_found(words: str) -> None:
    """The check itself can fail."""
    assert problem(words) is not None
