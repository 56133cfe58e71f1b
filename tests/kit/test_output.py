"""What reaches the user's terminal and log: bounded, redacted, without escapes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from sandbox_kit.console import one_line, prepare_streams, print_status, write_quietly
from sandbox_kit.output import EscapeFilter, HeadAndTail, LastStates, OutputStream
from sandbox_kit.plain_text import is_plain_text, strip_controls
from sandbox_kit.redaction import Redactor
from sandbox_kit.run_log import RunLog
from sandbox_kit.state_files import prune_old_files
from sandbox_kit.status_log import StatusLog

SECRET = "dtn_0123456789abcdef"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunLog:
    """A log in a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return RunLog("run-1")


def fed(stage: Redactor | EscapeFilter | LastStates, chunks: list[str]) -> str:
    return "".join(stage.feed(chunk) for chunk in chunks) + stage.finish()


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_a_secret_split_over_two_chunks_is_found(cut: int) -> None:
    """Streams are cut anywhere."""
    assert fed(Redactor([SECRET]), [f"a{SECRET[:cut]}", f"{SECRET[cut:]}b"]) == "a[redacted]b"


def test_a_secret_that_drips_in_is_found() -> None:
    """One character at a time is the worst case."""
    assert fed(Redactor([SECRET]), list(f"x{SECRET}{SECRET}y")) == "x[redacted][redacted]y"


def test_text_that_only_begins_like_a_secret_comes_out_whole() -> None:
    """What was held back is not lost."""
    assert fed(Redactor([SECRET]), ["dtn_", "0123", " and more"]) == "dtn_0123 and more"


def test_ordinary_text_is_not_held_back() -> None:
    """A prompt without a newline must show at once."""
    assert Redactor([SECRET]).feed("Continue? ") == "Continue? "


def test_short_values_are_not_redacted() -> None:
    """`--env DEBUG=1` would otherwise blank every 1."""
    assert fed(Redactor(["1"]), ["1 + 1"]) == "1 + 1"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("a\x08\x07b\x00", "ab"),
        ("\u202eevil\u2066", "evil"),
        ("\x9b2Jx", "x"),
        ("\x1bcx", "x"),
        ("tab\tnew\n", "tab\tnew\n"),
        ("a\x1bP1;2q\x1b\\b", "ab"),
        ("\x1b[?25l", ""),
        ("\x1b(Bx", "x"),
    ],
)
def test_escapes_and_controls_do_not_reach_the_terminal(raw: str, shown: str) -> None:
    """Output of a sandbox may try to rewrite the screen, the title, the clipboard."""
    assert fed(EscapeFilter(), [raw]) == shown
    assert fed(EscapeFilter(), list(raw)) == shown


def test_what_passes_unlooked_at_has_nothing_to_take_out() -> None:
    """The short way for plain text lets no character through that the long way would take out.

    In ASCII or beyond.
    """
    for number in range(0x3000):
        for text in (chr(number), f"a{chr(number)}b", f"ä{chr(number)}"):
            assert is_plain_text(text) == (strip_controls(text) == text), ascii(text)


def test_an_escape_that_never_ends_does_not_swallow_the_output() -> None:
    """Holding back has a bound, and the control character goes all the same."""
    text = fed(EscapeFilter(), ["\x1b]0;", "x" * 10_000, "end"])

    assert text.endswith("end")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("".join(f"\r{done}%" for done in range(1001)) + "\nend\n", "\n1000%\nend\n"),
        ("0%\r50%\r100%\r\nend", "0%\n100%\nend"),
        ("a\rb", "a\nb"),
        ("0%\r50%\r    \rdone\n", "0%\ndone\n"),
        ("working\r", "working"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("a\r" + "x" * 9000 + "\n", "a\n" + "x" * 9000 + "\n"),
    ],
    ids=["bar", "CRLF", "no end", "wiped", "one state", "Windows", "text"],
)
def test_a_line_that_is_written_again_counts_as_its_first_and_last_state(
    log: RunLog, raw: str, shown: str
) -> None:
    """A progress bar's 1,001 updates once filled the 16,000 characters; the log has them all."""
    for size in (1, 7, len(raw)):
        written: list[str] = []
        stream = OutputStream(written.append, limit=20_000, secrets=[], log=log)
        for start in range(0, len(raw), size):
            stream.feed(raw[start : start + size])
        stream.finish()
        assert "".join(written) == shown
    log.close()

    assert raw.replace("\r\n", "\n").replace("\r", "\n") in log.path.read_text()


@pytest.mark.parametrize(
    ("limit", "text", "shown"),
    [
        (10, "abc", "abc"),
        (10, "0123456789", "0123456789"),
        (4, "abcdefgh", "ab<4>gh"),
        (0, "abcdefgh", "abcdefgh"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_head_and_tail_are_shown_and_the_middle_counted(
    limit: int, text: str, shown: str, size: int
) -> None:
    """However the text is cut into chunks."""
    written: list[str] = []
    bounded = HeadAndTail(limit, written.append, notice=lambda left: f"<{left}>")
    for start in range(0, len(text), size):
        bounded.feed(text[start : start + size])
    bounded.finish()

    assert "".join(written) == shown


def test_the_head_is_passed_on_at_once() -> None:
    """Live output is live until the budget is used."""
    written: list[str] = []
    HeadAndTail(100, written.append, notice=str).feed("first\n")

    assert written == ["first\n"]


def test_memory_is_bounded_by_the_limit() -> None:
    """A gigabyte of output must not be held for its tail."""
    bounded = HeadAndTail(1000, lambda text: None, notice=str)
    for _ in range(10_000):
        bounded.feed("x" * 100)

    assert sum(map(len, bounded._tail)) <= 700


def test_the_log_has_everything_without_secrets_and_only_for_its_owner(log: RunLog) -> None:
    """What was left out of the terminal can be read there."""
    written: list[str] = []
    stream = OutputStream(written.append, limit=20, secrets=[SECRET], log=log)
    stream.feed(f"start {SECRET} " + "x" * 100 + "\x1b[0m end")
    stream.finish()
    log.close()

    assert log.path.read_text() == "start [redacted] " + "x" * 100 + " end"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stream.truncated
    assert str(log.path) in "".join(written)


def test_raw_output_keeps_escapes_but_not_secrets(log: RunLog) -> None:
    """--max-output 0 is for pipes; a key is redacted there too."""
    written: list[str] = []
    stream = OutputStream(written.append, limit=0, secrets=[SECRET], log=log)
    stream.feed(f"\x1b[31m{SECRET}\x1b[0m")
    stream.finish()

    log.close()

    assert "".join(written) == "\x1b[31m[redacted]\x1b[0m"


def test_the_log_is_capped(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's disk is not the program's to fill."""
    monkeypatch.setattr("sandbox_kit.run_log.LOG_LIMIT", 1000)
    for _ in range(100):
        log.write("x" * 100)
    log.close()

    assert log.path.stat().st_size < 1200
    assert "the log ends here" in log.path.read_text()


def test_logs_older_than_a_week_are_pruned(tmp_path: Path) -> None:
    """And nothing but logs."""
    for name in ("old.log", "new.log", "old.txt"):
        (tmp_path / name).write_text("")
    week = time.time() - 8 * 24 * 3600
    for name in ("old.log", "old.txt"):
        os.utime(tmp_path / name, (week, week))

    prune_old_files(tmp_path, "*.log")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.log", "old.txt"]


def test_narration_is_marked_and_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    """Our lines can be told from the program's; quiet keeps what matters."""
    narrator = StatusLog(quiet=True, secrets=[SECRET])
    narrator.say("dropped")
    narrator.tell(f"told {SECRET}")
    narrator.fail("it failed", "type this")

    told = capsys.readouterr().err
    assert told == "[sandbox] told [redacted]\n[sandbox] it failed\nfix: type this\n"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_somebody_elses_words_are_marked_line_by_line_and_plain(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A build's log is as hostile as output: no cursor is moved, no line of its own begun."""
    StatusLog().pass_on("step 1\x1b]0;title\x07\r\nfix: rm -rf ~\x1b[2J")

    assert capsys.readouterr().err == "[sandbox] step 1\n[sandbox] fix: rm -rf ~\n"


def test_a_secret_of_many_lines_is_taken_out_before_they_are_split(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A key has lines, and no line of it is the whole."""
    key = "first-line-of-it\nsecond-line-of-it"
    log = StatusLog(secrets=[key])
    log.pass_on(f"built with {key}\r\nand more")
    log.trace(ValueError(f"the server said {key}"))

    told = capsys.readouterr().err
    assert "line-of-it" not in told
    assert "[sandbox] built with [redacted]\n[sandbox] and more\n" in told


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"),
    [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)],
)
def test_a_wait_counts_seconds_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], quiet: bool, shown: bool
) -> None:
    """One line that is gone afterwards; a log file gets plain lines only."""
    screen = stream()
    monkeypatch.setattr(sys, "stderr", screen)

    async def wait() -> None:
        with StatusLog(quiet=quiet).waiting("uploading"):
            await asyncio.sleep(1.1)

    asyncio.run(wait())

    assert ("uploading 1 s" in screen.getvalue()) is shown
    assert screen.getvalue().endswith("\r\x1b[K") is shown


HANG_CPU_S = 30
HIDDEN = [
    0x00AD,
    0x034F,
    0x115F,
    0x17B4,
    0x180E,
    0x200B,
    0x2060,
    0x2065,
    0x2800,
    0x3164,
    0xFE00,
    0xFFA0,
    0xFFF9,
    0x1D173,
    0xE0001,
    0xE0041,
    0xE0100,
    0xE01EF,
    0xE0FFF,
]


@pytest.mark.parametrize("number", HIDDEN, ids=hex)
def test_what_is_invisible_reaches_neither_a_terminal_nor_a_model(number: int) -> None:
    """A text that only a model reads is taken out, of a program's output and of our own lines."""
    assert strip_controls(f"a{chr(number)}b") == "ab"
    assert one_line(f"a{chr(number)}b") in ("ab", "a b")


def test_what_has_a_use_stays_in_a_programs_output() -> None:
    """Joiners and selectors in emoji and in scripts; a long row of them can only be a message."""
    for text in (
        "👨\u200d👩\u200d👧",
        "❤\ufe0f\u200d🔥",
        "\u0645\u06cc\u200c\u062e",
        "e\u0301",
        "größe",
    ):
        assert strip_controls(text) == text
    assert strip_controls("a" + "\u200c\u200d" * 40 + "b") == "a\u200c\u200db"


@pytest.mark.parametrize(
    "text",
    [
        "\u009d" * 1_000_000,
        "\x1b" * 1_000_000 + "\x07",
        "\x1b\x07" * 500_000,
        "\x1b]" * 500_000,
        "\x9b" * 1_000_000 + "\x9c",
        "\x90\x1b" * 500_000,
        "\x1b[0" * 300_000,
        "\x1b " * 500_000,
    ],
    ids=["9d", "ESC BEL", "many", "OSC", "9b", "DCS", "CSI", "two"],
)
def test_escapes_without_end_do_not_hold_the_run(text: str) -> None:
    """Beginnings of escapes without an end cost no time.

    Each was once followed to the end of the text, for minutes a megabyte and with no signal
    answered: a hang, not a slow answer.
    """

    def hangs(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_CPU_S)
    try:
        escapes = EscapeFilter()
        shown = (
            "".join(
                escapes.feed(text[place : place + 100_000])
                for place in range(0, len(text), 100_000)
            )
            + escapes.finish()
        )
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

    assert "\x1b" not in shown


def test_our_line_never_joins_a_programs_whichever_stream_it_was_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where stderr is a file of its own, a line that it has open is closed before ours.

    Also when a line of stdout came and ended in between.
    """
    prepare_streams()
    write_quietly(sys.stderr, "[sandbox] exit code 0 is the program's")
    write_quietly(sys.stdout, "line\n")
    print_status("[sandbox] exit code 1 is the program's")

    assert capsys.readouterr().err.splitlines() == [
        "[sandbox] exit code 0 is the program's",
        "[sandbox] exit code 1 is the program's",
    ]
