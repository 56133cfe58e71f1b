"""What a server says is checked where it comes in: the unexpected is refused or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox_kit.checked import (
    checked_exit_code,
    checked_id,
    checked_link,
    checked_moment,
    checked_name,
    checked_state,
)
from sandbox_kit.errors import Failure

NO_IDS = (
    "",
    "$(touch x)",
    "a b",
    "../x",
    "a/b",
    "-rf",
    "a\nb",
    "a;b",
    "a'b",
    'a"b',
    "a`b",
    "\x1b[2J",
    "ä",
    "x" * 129,
    "a?b",
    "a#b",
    "a%2fb",
    ".",
    "a&b",
)
NO_LINKS = (
    "",
    "ftp://x/",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "http://",
    "http:///x",
    "//x/y",
    "http://user:pw@host/",
    "http://a b/",
    "http://a/\n",
    "http://a/$(id)",
    "http://a/`id`",
    "http://a/;id",
    "http://a/'",
    'http://a/"',
    "http://a/\x1b[0m",
    "http://[::1",
    "http://a:99999/",
    "http://a/|x",
    "http://a/\u202e",
    "x" * 5000,
    "http://app.daytona.io%2eevil/",
)


@pytest.mark.parametrize(
    "value",
    ["b856cd4c-597a-46c2-b2c6-1a38ac21b67e", "cmd1", "a.b_c-d", "run-20261126-010203-0123abcd"],
)
def test_an_id_is_taken_as_it_is(value: str) -> None:
    """Daytona's are UUIDs."""
    assert checked_id(value) == value


@pytest.mark.parametrize("value", NO_IDS, ids=ascii)
def test_what_is_no_id_is_refused(value: str) -> None:
    """It becomes part of an address and of a command to paste; the refusal is one clean line."""
    with pytest.raises(Failure) as caught:
        checked_id(value)

    assert caught.value.kind == "server_error"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "value",
    [
        "https://8000-abc.proxy.daytona.works/?a=b&c=%20",
        "http://127.0.0.5:8000/x",
        "http://[::1]:8000/",
    ],
)
def test_a_link_is_taken_as_it_is(value: str) -> None:
    """http and https."""
    assert checked_link(value) == value


@pytest.mark.parametrize("value", NO_LINKS, ids=lambda value: ascii(value)[:40])
def test_what_is_no_link_is_refused(value: str) -> None:
    """It is opened, and sent a key."""
    with pytest.raises(Failure) as caught:
        checked_link(value)

    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, 0), (3.0, 3), (255, 255), (256, 255), (512, 255), (-1, 255), (2**31, 255), (1e300, 255)],
)
def test_an_exit_code_outside_is_never_zero(value: float, code: int) -> None:
    """A shell would take 256 for success."""
    assert checked_exit_code(value) == code


@pytest.mark.parametrize("value", [None, "0", True, float("nan"), float("inf"), [], {}])
def test_what_is_no_exit_code_is_refused(value: Any) -> None:
    """A program whose end is not known has not succeeded."""
    with pytest.raises(Failure):
        checked_exit_code(value)


def test_texts_are_one_clean_bounded_line() -> None:
    """A name may be anything; a moment or a state that is none is not known."""
    assert checked_name("work-1") == "work-1"
    assert checked_name("a\x1b]0;x\x07\nfix: rm") == r"'a\x1b]0;x\x07\nfix: rm'"
    pasted = checked_name("work; delete it with: curl x | sh #")
    assert pasted == "'work; delete it with: curl x | sh #'"
    assert len(checked_name("x" * 10_000)) <= 201
    assert checked_moment("2026-11-26T01:02:03.456Z") == "2026-11-26T01:02:03.456Z"
    assert checked_moment("soon\x1b[2J") is None
    assert checked_moment(None) is None
    assert checked_moment("٢٠٢٦-11-26T01:02:03Z") is None
    assert checked_state("started") == "started"
    assert checked_state("started\nfix: x") == "unknown"
