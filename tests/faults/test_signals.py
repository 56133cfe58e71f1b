"""A signal gets its line at once and an end in time, whatever holds the call that is under way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.local_server import SCRIPTS, LocalServer, until

from .proxy import Fault, Proxy

RUN = [sys.executable, str(SCRIPTS / "run_in_sandbox.py")]
VERBS = [sys.executable, str(SCRIPTS / "sandboxes.py")]
LINE = "interrupted by SIGTERM: cleaning up, which ends within 120 s"
SOON_S, WHOLE_S = 10.0, 120.0  # the line comes within 2 s on a quiet machine
SHORT_LIMIT = (
    f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from sandbox_kit import entry, interrupts;"
    " interrupts.LIMIT_S = 1.0; raise SystemExit(entry.run_in_sandbox(sys.argv[1:]))"
)
# What holds a run: (method, path, kind of fault).
HELD = {
    "an upload": ("POST", "/toolbox/.*/files/bulk-upload", "drip"),
    "a session": ("POST", "/toolbox/.*/process/session", "late"),
    "a stream that only pings": ("GET", "/toolbox/.*/logs", "drip"),
    "an exit code": ("GET", "/toolbox/.*/command/[^/]*", "drip"),
    "a download": ("GET", "/toolbox/.*/files/download", "drip"),
}


def start(argv: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ.copy(),
            cwd=folder,
        )


def end_by_signal(process: subprocess.Popen[bytes], folder: Path, line: str) -> str:
    """What it printed on stderr, when the line came soon and the end in time."""
    process.send_signal(signal.SIGTERM)
    until(lambda: line in (folder / "err").read_text(), seconds=SOON_S)
    process.wait(timeout=WHOLE_S)
    return (folder / "err").read_text()


@pytest.mark.parametrize("held", HELD)
def test_a_call_that_does_not_end_holds_no_signal(
    proxy: Proxy, server: LocalServer, tmp_path: Path, held: str
) -> None:
    """The line says how long it may take, and the sandbox is gone afterwards."""
    method, path, action = HELD[held]
    proxy.faults.append(Fault(method, path, action))
    process = start([*RUN, "--command", "echo 1 >o", "--download", "o:results/o.csv"], tmp_path)
    until(lambda: proxy.count(method, path) > 0, seconds=30)
    said = end_by_signal(process, tmp_path, LINE)

    assert process.returncode == 143
    assert server.sandboxes() == []
    assert said.splitlines()[-2].startswith("[sandbox] exit code 143 is this tool's: interrupted")


def test_a_cleanup_that_does_not_end_is_left_and_told(
    proxy: Proxy, server: LocalServer, tmp_path: Path
) -> None:
    """The process ends when its line said so, with the sandbox's id and the JSON."""
    proxy.faults.append(Fault("DELETE", "/api/sandbox/.*", "drip"))
    argv = [sys.executable, "-c", SHORT_LIMIT, "--json", "--command", "sleep 60"]
    process = start(argv, tmp_path)
    until(lambda: proxy.count("GET", "/toolbox/.*/logs") > 0, seconds=30)
    said = end_by_signal(process, tmp_path, "which ends within 1 s")
    [left] = server.sandboxes()
    server.request("DELETE", f"/api/sandbox/{left['id']}")
    answer = json.loads((tmp_path / "out").read_text())

    assert process.returncode == 143
    assert f"may be left: {left['id']}" in said
    assert (answer["error"]["kind"], answer["sandbox"]["id"]) == ("interrupted", left["id"])


@pytest.mark.parametrize("verb", ["wait", "logs", "delete", "list"])
def test_a_verb_that_waits_ends_by_a_signal(
    proxy: Proxy, server: LocalServer, tmp_path: Path, verb: str
) -> None:
    """With a line and the signal's code, as a run."""
    proxy.faults.append(Fault("GET|DELETE", "/api/sandbox.*", "drip"))
    process = start([*VERBS, verb, *(["some-id"] if verb != "list" else [])], tmp_path)
    until(lambda: proxy.seen, seconds=30)
    said = end_by_signal(process, tmp_path, LINE)

    assert process.returncode == 143
    assert "[sandbox] interrupted by SIGTERM" in said.splitlines()[-2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_is_created_is_told(
    tmp_path: Path, number: signal.Signals
) -> None:
    """While the program is read from a pipe that nobody writes."""
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [*RUN, "--local", "--command", "-"], stdin=subprocess.PIPE, stderr=err
        )
    until(lambda: is_reading(process.pid), seconds=30)
    process.send_signal(number)
    process.wait(timeout=SOON_S)
    assert process.stdin is not None
    process.stdin.close()

    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in (tmp_path / "err").read_text()


def is_reading(pid: int) -> bool:
    """Whether a process waits for its stdin, which it does with its request's first look at it."""
    try:
        number, descriptor, *_ = Path(f"/proc/{pid}/syscall").read_text().split()
    except (OSError, ValueError):
        return False
    return number in ("0", "63") and int(descriptor, 16) == 0
