"""Links, flags and limits of the prose."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_kit.arguments import (
    VERBS,
    parse_health_arguments,
    parse_run_arguments,
    parse_sandboxes_arguments,
)

from . import daytona_cli
from .pages import FLAG, ROOT, blocks, body, front_matter, headings, links, pages

ALL = pages()
# Flags of other programs that the pages show (python3, http.server, uv, npx, claude, git, pytest,
# Jupyter, Chrome).
# Every other flag must be ours or the daytona CLI's.
FOREIGN_FLAGS = {
    "--allow-root",
    "--no-sandbox",
    "--screenshot",
    "--headless",
    "--window-size",
    "--with-deps",
    "--version",
    "--bind",
    "--cloud",
    "--generate-hashes",
    "--plugin-dir",
    "--python-version",
    "--extra",
    "--universal",
    "--no-header",
    "--init",
    "--no-index",
    "--only-binary",
}
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

    sandboxes = [(verb.name, "--help") for verb in VERBS]
    server = [(name, "--help") for name in commands.COMMANDS]
    return [
        lambda: parse_run_arguments(["--help"]),
        lambda: parse_health_arguments(["--help"]),
        *(lambda words=words: parse_sandboxes_arguments(words) for words in sandboxes),
        *(lambda words=words: commands.parser().parse_args(words) for words in server),
    ]


def unknown_flags(text: str) -> set[str]:
    of_the_cli = {flag for flags in daytona_cli.COMMANDS.values() for flag in flags}
    return (
        set(FLAG.findall(text)) - our_flags() - of_the_cli - set(daytona_cli.EVERY) - FOREIGN_FLAGS
    )


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_flag_exists(page: Path) -> None:
    """A flag that the pages name is our parsers', the daytona CLI's, or a listed program's."""
    assert unknown_flags(page.read_text()) == set()


def test_a_wrong_flag_would_be_found() -> None:
    """The check itself can fail."""
    assert len(our_flags()) > 25
    assert unknown_flags("run it with `--no-such-flag` or --timeout") == {"--no-such-flag"}


COMMAND_LINE = re.compile(r"(run_in_sandbox|sandboxes|healthcheck)\.py\"? ([^\n]*)")


def command_lines() -> list[tuple[str, list[str]]]:
    """(script, words) of each call of our scripts in a bash block, up to a shell's separator."""
    found = []
    for block in blocks():
        for match in COMMAND_LINE.finditer(block.text if block.tag == "bash" else ""):
            lexer = shlex.shlex(match[2], posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(
                itertools.takewhile(
                    lambda word: word not in ("|", "||", "&&", ";", ">", ")"), lexer
                )
            )
            found.append((match[1], words))
    return found


@pytest.mark.parametrize(
    ("script", "words"),
    command_lines(),
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else value,
)
def test_every_command_line_is_taken_by_its_parser(script: str, words: list[str]) -> None:
    """Also in blocks that cannot run here."""

    {
        "run_in_sandbox": parse_run_arguments,
        "sandboxes": parse_sandboxes_arguments,
        "healthcheck": parse_health_arguments,
    }[script](words)


def test_there_are_command_lines() -> None:
    """An empty extraction would pass everything above."""
    assert len(command_lines()) > 12


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
    match = re.search(
        r"^description: >-\n((?:  .+\n)+)", front_matter(ROOT / "SKILL.md"), re.MULTILINE
    )
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
        assert not re.search(
            r"\b90 ?ms\b|sub-second|blazing|lightning", page.read_text(), re.IGNORECASE
        ), page
