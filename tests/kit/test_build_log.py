"""An image's build log: whole lines, bounded, whatever the chunks."""

from __future__ import annotations

import pytest

from sandbox_kit.sdk.build_log import CUT, LONGEST_LINE, MOST_LINES, BuildLog


def told(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    log = BuildLog(lines.append)
    for chunk in chunks:
        log.feed(chunk)
    log.finish()
    return lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_whole_however_they_are_cut(size: int) -> None:
    """A character or an escape may be spread over two chunks: what is passed on is a whole line."""
    data = "step 1\r\nä → \x1b[31mred\x1b[0m\n\nlast".encode()

    assert told(*(data[place : place + size] for place in range(0, len(data), size))) == [
        "step 1",
        "ä → \x1b[31mred\x1b[0m",
        "last",
    ]


def test_a_line_and_a_log_without_end_are_cut() -> None:
    """Whoever wrote the image decides how much it prints."""
    lines: list[str] = []
    log = BuildLog(lines.append)
    more = [log.feed(b"x" * 100_000 + b"\n" + b"line\n" * 100) for _ in range(10)]

    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == CUT
    assert max(map(len, lines)) <= LONGEST_LINE + 1
    assert more[0]
    assert not more[-1]
