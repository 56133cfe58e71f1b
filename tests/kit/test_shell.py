"""sandboxes.py shell: a terminal in a sandbox, through a real pseudo-terminal here."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_server import SCRIPTS, LocalServer

from .script_runner import Script

LONGEST_S = 30.0


class Person:
    """Whoever sits before the terminal: types, and reads what appears."""

    def __init__(self, name: str, folder: Path) -> None:
        self.master, slave = pty.openpty()
        resize(slave, 100, 30)
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPTS / "sandboxes.py"), "shell", name, "--local"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            start_new_session=True,
        )
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + LONGEST_S
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def end(self) -> int:
        deadline = time.monotonic() + LONGEST_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.process.wait(timeout=1)

    @property
    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


def resize(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


@pytest.fixture
def person(run: Script, server: LocalServer, scripts_environment: Path) -> Iterator[Person]:
    run("--local", "--name", "shelled", "--command", "true")
    found = Person("shelled", scripts_environment)
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.wait()
    os.close(found.master)
    os.close(found.slave)
    for made in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{made['id']}")


def test_what_is_typed_is_answered_and_the_exit_code_is_the_shells(person: Person) -> None:
    """Keys go there one by one: nothing is echoed or waited for here; the terminal is restored."""
    person.wait_for(r"\$ |# ")
    person.type("echo $((40 + 2))\r")
    person.wait_for("42")
    person.type("exit 7\r")

    assert person.end() == 7
    assert person.is_restored


def test_an_interrupt_goes_inside(person: Person) -> None:
    """Ctrl-C ends what runs in the sandbox, not this program."""
    person.wait_for(r"\$ |# ")
    person.type("sleep 60\r")
    time.sleep(0.5)
    person.type("\x03")
    person.type("echo after $?\r")
    person.wait_for("after 130")
    person.type("exit\r")

    assert person.end() == 0


def test_its_size_is_that_of_the_terminal_here(person: Person) -> None:
    """Also when that one changes."""
    person.wait_for(r"\$ |# ")
    person.type("stty size\r")
    person.wait_for("30 100")
    resize(person.slave, 90, 20)
    os.kill(person.process.pid, signal.SIGWINCH)
    time.sleep(0.5)
    person.type("stty size\r")
    person.wait_for("20 90")


def test_a_signal_leaves_the_terminal_as_it_was(person: Person) -> None:
    """Whoever closes the window, or kills it, has a terminal that works."""
    person.wait_for(r"\$ |# ")
    person.process.send_signal(signal.SIGTERM)

    assert person.end() == 143
    assert person.is_restored


def test_a_terminal_that_goes_away_is_the_end(person: Person) -> None:
    """It neither spins at it nor shows a traceback."""
    person.wait_for(r"\$ |# ")
    os.close(person.slave)
    os.close(person.master)
    code = person.process.wait(timeout=20)
    person.master, person.slave = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)

    assert code in (125, 129, 130)


def test_off_a_terminal_it_says_what_to_type_instead(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """An agent has none."""
    run("--local", "--name", "shelled", "--command", "true")
    result = sandboxes_script("shell", "shelled", "--local")
    for made in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{made['id']}")

    assert result.code == 2
    assert "run_in_sandbox.py" in result.fix
    assert "--command CMD" in result.fix
