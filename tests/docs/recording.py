"""python3 -m tests.docs.recording: runs the README's session, writes its output there, draws it.

On a fresh local engine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

from tests.local_server import new_state_dir

from .pages import ROOT

README = ROOT / "README.md"
PICTURE = Path(__file__).with_name("recording.svg")
COLUMNS, SESSIONS_DRAWN = 100, 2
LETTER_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 20, 20  # pixels
PROMPT_COLOUR, OURS_COLOUR, OUTPUT_COLOUR, GROUND = "#7ee787", "#8b949e", "#e6edf3", "#0d1117"
BEGIN, END = "<!-- recorded by python3 -m tests.docs.recording -->", "<!-- end of the recording -->"
COMMANDS = (
    "python3 scripts/run_in_sandbox.py --local --code 'print(sum(range(100)))'",
    "python3 scripts/run_in_sandbox.py --local --command 'ls /workspace' || echo \"exit code $?\"",
    (
        "python3 scripts/run_in_sandbox.py --local --quiet --timeout 2 "
        "--command 'echo begun; sleep 60' || echo \"exit code $?\""
    ),
    "python3 scripts/sandboxes.py list --local",
)
# What differs from run to run, and what stands for it when two recordings are compared.
VARYING = (
    (re.compile(r"run-\d{8}-\d{6}-[0-9a-f]{8}"), "run-NAME"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
)


def record() -> str:
    """A terminal's view: each command behind `$`, its two streams as they came."""
    state = new_state_dir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": tempfile.mkdtemp(prefix="recording-"),
        "LANG": "C.UTF-8",
        "DAYTONA_LOCAL_STATE": str(state),
    }
    environment["XDG_DATA_HOME"] = os.environ.get(
        "XDG_DATA_HOME", str(Path.home() / ".local/share")
    )
    shown = []
    try:
        for command in COMMANDS:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=True,
            )
            shown.append(f"$ {command}\n{done.stdout}")
    finally:
        stop = [sys.executable, "scripts/local_daytona", "stop", "--state-dir", str(state)]
        subprocess.run(stop, cwd=ROOT, capture_output=True, timeout=60, check=False)
    return "\n".join(shown)


def in_the_readme() -> str:
    """The recording that the README shows."""
    found = re.search(
        re.escape(BEGIN) + r"\n\n```text\n(.*?)```\n\n" + re.escape(END),
        README.read_text(),
        re.DOTALL,
    )
    if found is None:
        raise ValueError("the README has no place for the recording")
    return found[1]


def draw(recording: str) -> str:
    """An SVG picture of its first sessions, as a terminal of `COLUMNS` shows them."""
    sessions = recording.split("\n\n")[:SESSIONS_DRAWN]
    drawn = []
    for line in "\n\n".join(sessions).splitlines():
        drawn += [(part, colour_of(line)) for part in textwrap.wrap(line, COLUMNS) or [""]]
    width = round(COLUMNS * LETTER_WIDTH) + 2 * MARGIN
    height = len(drawn) * LINE_HEIGHT + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE_HEIGHT * number - 5}" fill="{colour}">'
        f"{escape(part)}</text>"
        for number, (part, colour) in enumerate(drawn, 1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="monospace" font-size="14" xml:space="preserve">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


def colour_of(line: str) -> str:
    if line.startswith("$ "):
        return PROMPT_COLOUR
    return OURS_COLOUR if line.startswith("[sandbox]") else OUTPUT_COLOUR


def plain(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def main() -> int:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n\n```text\n{record()}```\n\n{END}{rest.split(END)[1]}")
    PICTURE.write_text(draw(in_the_readme()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
