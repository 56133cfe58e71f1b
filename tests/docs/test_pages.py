"""Links, flags and limits of the prose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .pages import FLAG, ROOT, body, front_matter, headings, links, pages

ALL = pages()
# Flags of other programs that the pages show; everything else must be one of ours.
FOREIGN_FLAGS = {
    "--version", "--bind", "--max-time", "--no-cache-dir", "--user", "--upgrade",
}  # fmt: skip
SIX_FIELDS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def test_there_are_pages() -> None:
    """An empty list would pass everything below."""
    assert {"SKILL.md", "README.md"} <= {page.name for page in ALL}


def our_flags() -> set[str]:
    """Every flag of every parser of the scripts, from their own --help."""
    import contextlib
    import io

    found: set[str] = set()
    for show in help_texts():
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            show()
        flags = set(FLAG.findall(text.getvalue()))
        assert flags, "a --help without flags: the extraction is broken"
        found |= flags
    return found


def help_texts() -> list[Callable[[], object]]:
    """One call a parser, each printing its --help."""
    from local_daytona import commands
    from sandbox_kit import options

    sandboxes = [("list", "--help"), ("delete", "--help")]
    server = [(name, "--help") for name in commands.COMMANDS]
    return [
        lambda: options.parse_run(["--help"]),
        lambda: options.parse_health(["--help"]),
        *(lambda words=words: options.parse_list(words) for words in sandboxes),
        *(lambda words=words: commands.parser().parse_args(words) for words in server),
    ]


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative targets exist, with the heading they name."""
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in headings(found), target


def test_the_front_matter_has_only_the_six_fields_every_client_takes() -> None:
    """Any other key is a hard error on claude.ai and in the API."""
    keys = re.findall(r"^([a-z-]+):", front_matter(ROOT / "SKILL.md"), re.MULTILINE)

    assert set(keys) <= SIX_FIELDS
    assert {"name", "description", "license"} <= set(keys)


def test_the_description_is_within_what_clients_show() -> None:
    """At most 1,024 characters, no angle brackets, the trigger in the first 200."""
    match = re.search(r"^description: >-\n((?:  .+\n)+)", front_matter(ROOT / "SKILL.md"), re.MULTILINE)
    assert match is not None
    text = " ".join(line.strip() for line in match[1].splitlines())

    assert len(text) <= 450
    assert not set("<>") & set(text)
    assert "Use when" in text[:200]


def test_the_guide_is_short() -> None:
    """Every line of it competes with the user's own context."""
    assert len(body(ROOT / "SKILL.md").splitlines()) <= 130


def test_no_marketing_numbers() -> None:
    """Start times of the cloud are not ours to promise."""
    for page in ALL:
        assert not re.search(r"\b90 ?ms\b|sub-second|blazing|lightning", page.read_text(), re.IGNORECASE), page
