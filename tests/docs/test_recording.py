"""The README's recorded session is what a session prints today."""

from __future__ import annotations

import pytest

from .recording import PICTURE, draw, in_the_readme, plain, record


@pytest.mark.usefixtures("isolating")
def test_the_recording_is_what_the_commands_print() -> None:
    """Names, ids and ports apart; `python3 -m tests.docs.recording` makes it anew."""
    assert plain(in_the_readme()) == plain(record())
    assert "4950" in in_the_readme()


def test_the_picture_shows_the_recording() -> None:
    """Drawn by the same script from the same text."""
    assert PICTURE.read_text() == draw(in_the_readme())
    assert ">4950</text>" in PICTURE.read_text()
