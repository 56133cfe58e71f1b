"""The client as Windows and macOS would have it, as far as Linux can play them.

What is missing there is taken away here.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_kit.archive.pairs import safe_remote, split_pair
from sandbox_kit.errors import Failure
from tests.local_server import SCRIPTS, LocalServer

CLIENT = [
    path
    for path in (*(SCRIPTS / "sandbox_kit").glob("*.py"), *SCRIPTS.glob("*.py"))
    if path.stem != "__init__"
]
POSIX_ONLY = {
    "fcntl",
    "grp",
    "pty",
    "pwd",
    "readline",
    "resource",
    "spwd",
    "syslog",
    "termios",
    "tty",
}
# No SIGHUP, no handlers on the loop, no O_NOFOLLOW, no user ids, a console of another code page.
POORER = """
import asyncio, os, signal, sys
for name in ("O_NOFOLLOW", "O_NONBLOCK", "geteuid", "getuid", "getgid", "mkfifo", "chown", "fork"):
    delattr(os, name)
os.supports_dir_fd = set()
for name in ("SIGHUP", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)
def refuse(*_): raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = refuse
sys.path.insert(0, sys.argv.pop(1))
from sandbox_kit.entry import run_in_sandbox
raise SystemExit(run_in_sandbox(sys.argv[1:]))
"""


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: path.name)
def test_no_module_needs_what_windows_has_not(path: Path) -> None:
    """The one import in a function, fcntl for the install's lock, is allowed to fail."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])

    assert names
    assert not names & POSIX_ONLY


def played(server: LocalServer, folder: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "DAYTONA_API_URL": server.api_url,
        "DAYTONA_API_KEY": server.api_key,
        "DAYTONA_LOCAL_STATE": str(server.state_dir),
        "PYTHONIOENCODING": "cp1252",
    }
    return subprocess.run(
        [sys.executable, "-c", POORER, str(SCRIPTS), *argv],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_a_whole_run_works_there(server: LocalServer, tmp_path: Path) -> None:
    """Files both ways, and output that the console's code page does not have."""
    project = tmp_path / "project"
    (project / "in").mkdir(parents=True)
    (project / "in" / "a.csv").write_text("ä → 漢")
    done = played(
        server,
        project,
        "--upload",
        "in",
        "--command",
        "cat in/a.csv; cp -r in out; exit 3",
        "--download",
        "out",
    )

    assert done.returncode == 3, done.stderr
    assert done.stdout.decode() == "ä → 漢\n"
    assert (project / "out" / "a.csv").read_text() == "ä → 漢"
    assert server.sandboxes() == []


def test_an_error_there_has_no_traceback(server: LocalServer, tmp_path: Path) -> None:
    """A refused path is refused in the same words."""
    done = played(server, tmp_path, "--upload", "../x", "--command", "true")

    assert done.returncode == 125
    assert b"Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"fix: ")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        (r"C:\work\a", (r"C:\work\a", None)),
        (r"C:\work\a:there", (r"C:\work\a", "there")),
        ("a:b", ("a", "b")),
        ("C:/a", ("C:/a", None)),
    ],
)
def test_a_drive_letter_is_no_side(
    monkeypatch: pytest.MonkeyPatch, text: str, pair: tuple[str, str | None]
) -> None:
    """HERE:THERE with a colon of Windows' own."""
    monkeypatch.setattr("sandbox_kit.archive.pairs.WINDOWS", True)

    assert split_pair(text, flag="--upload") == pair


def test_a_local_path_is_never_sent_as_a_remote_one() -> None:
    """A backslash on the sandbox's side is a mistake, not a folder."""
    with pytest.raises(Failure):
        safe_remote(r"out\a", flag="--upload")
