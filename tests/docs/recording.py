"""python3 -m tests.docs.recording: runs the README's session and writes its output there.

On a fresh local engine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.local_server import new_state_dir

from .pages import ROOT

README = ROOT / "README.md"
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


def plain(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def main() -> int:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n\n```text\n{record()}```\n\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
