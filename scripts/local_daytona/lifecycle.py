"""Running as a server and being found: state folder, lock, server.json, start, stop, status."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skill_env

from .errors import LifecycleError, StateTaken
from .isolation.orphans import has_ended

ANSWER_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0  # then it is killed: a killed server loses nothing that it acknowledged
KILL_TIMEOUT_S = 10.0
POLL_S = 0.02
PASSABLE = 0o711
SERVER_LOG_LIMIT = 5 * 1024 * 1024


@dataclass(frozen=True)
class ServerFile:
    """What server.json holds; the key never shows in a repr."""

    url: str
    pid: int
    version: str
    api_key: str

    def __repr__(self) -> str:
        return f"ServerFile(url={self.url!r}, pid={self.pid}, version={self.version!r})"

    @staticmethod
    def path(state: Path) -> Path:
        return state / "server.json"

    @classmethod
    def read(cls, state: Path) -> ServerFile | None:
        """The file of a server that runs or ran; None when there is none, or it is not ours."""
        try:
            values = json.loads(cls.path(state).read_text())
            return cls(**{name: values[name] for name in ("url", "pid", "version", "api_key")})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: Path) -> None:
        """Put it in place at once, readable by its owner only."""
        fresh = state / f".server.json.{os.getpid()}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(dataclasses.asdict(self), file)
        os.replace(fresh, self.path(state))


def typed(*words: str) -> str:
    """This package's command line as a user would type it, from any folder."""
    return skill_env.command("local_daytona", *words)


def new_key() -> str:
    return f"dtn_local_{secrets.token_hex(24)}"


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state folder; raises LifecycleError when another server or user has it.

    The kernel frees it with the process, whose number the lock's file tells.
    """
    fd = lock(state)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def make_state_folder(state: Path) -> None:
    """With what is missing above it; raises OSError.

    Sandboxes of a root server have a user of their own, who passes whatever umask root has.
    """
    if os.geteuid() == 0:
        for folder in reversed(state.parents):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(PASSABLE)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)


def lock(state: Path) -> int:
    """The locked file's descriptor; raises LifecycleError as `locked` does."""
    make_state_folder(state)
    if state.stat().st_uid != os.geteuid():
        reason = f"{state} belongs to another user"
        raise LifecycleError(reason, fix="give --state-dir a folder of your own")
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StateTaken(
            f"another local Daytona uses {state}",
            fix=f"{typed('status')}   (or give --state-dir another folder)",
        ) from None
    return fd


def holder(state: Path) -> int | None:
    """The process that holds the state folder, also one that answers nobody; None without one."""
    if not is_held(state):
        return None
    server, told = ServerFile.read(state), []
    with contextlib.suppress(OSError, ValueError):
        told.append(int((state / "lock").read_text()))
    if server is not None:  # one of before the lock's file told it
        told.append(server.pid)
    return next((pid for pid in told if has_open(pid, state / "lock")), None)


def has_open(pid: int, path: Path) -> bool:
    """Whether a process of this user's has a file open; False for one that has ended."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.path.samefile(entry.path, path):
                    return True
    return False


def ask(server: ServerFile, path: str) -> Any:
    """GET a JSON answer of a running server; raises OSError or ValueError when there is none."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(server.url + path, headers=headers)
    no_proxy = urllib.request.ProxyHandler({})  # loopback never goes through one
    opener = urllib.request.build_opener(no_proxy)
    with opener.open(request, timeout=ANSWER_TIMEOUT_S) as response:
        return json.load(response)


def status_of(state: Path) -> dict[str, Any] | None:
    """The running server's own status; None when none answers."""
    server = ServerFile.read(state)
    if server is None:
        return None
    try:
        status = ask(server, "/local/status")
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def start(state: Path, *, version: str, serve: list[str]) -> ServerFile:
    """A healthy server of this version on `state`, started by the command `serve` if need be.

    Raises LifecycleError.
    """
    running = status_of(state)
    if running is not None and running["version"] != version:
        replace(state, running, version)
        running = None
    if running is None:
        wait_until_healthy(state, spawn(state, serve))
    server = ServerFile.read(state)
    if server is None:
        raise LifecycleError(f"{ServerFile.path(state)} went away", fix=typed("start"))
    return server


def replace(state: Path, running: dict[str, Any], version: str) -> None:
    """Stop a server of another version, unless somebody's sandboxes are on it."""
    if running["sandboxes"]:
        raise LifecycleError(
            f"local Daytona {running['version']} is running"
            f" with {len(running['sandboxes'])} sandboxes; this skill is {version}",
            fix=f"{typed('stop')}   (kept sandboxes stay, stopped, with their files)",
        )
    stop(state)


def spawn(state: Path, serve: list[str]) -> subprocess.Popen[bytes]:
    """Start the server detached from this terminal, its narration going to server.log."""
    make_state_folder(state)
    with open_log(state) as log:
        return subprocess.Popen(
            serve,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            close_fds=True,
        )


def open_log(state: Path) -> Any:
    path = state / "server.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if path.exists() and path.stat().st_size > SERVER_LOG_LIMIT:
        flags |= os.O_TRUNC
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def wait_until_healthy(state: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers; raises LifecycleError.

    One that ended may have lost a race against another start, whose server then answers.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        server = ServerFile.read(state)
        if server is not None and status_of(state) is not None:
            return
        if process.poll() not in (None, ALREADY_RUNNING):
            raise last_words(state)
        time.sleep(POLL_S)
    raise LifecycleError(
        f"local Daytona did not answer within {START_TIMEOUT_S:.0f} s",
        fix=f"{typed('stop')}   (one that answers nobody, too; see {state / 'server.log'})",
    )


ALREADY_RUNNING = 7  # how `serve` ends when another server holds the state folder


def last_words(state: Path) -> LifecycleError:
    """Why the server ended: the `message` and `fix:` lines that it left at the end of its log."""
    lines = (state / "server.log").read_text(errors="replace").splitlines()[-20:]
    fixes = [line.partition("fix: ")[2] for line in lines if line.startswith("fix: ")]
    reasons = [line for line in lines if line and not line.startswith("fix: ")]
    return LifecycleError(
        reasons[-1] if reasons else "it ended at once",
        fix=fixes[-1] if fixes else f"read {state / 'server.log'}",
    )


def stop(state: Path) -> bool:
    """End whoever holds the state folder, answering or not, and wait; False without one.

    Raises LifecycleError when it does not end.
    """
    pid = holder(state)
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:  # it ended by itself just now
        return True
    try:
        for number, seconds in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if has_ended(process, int(seconds * 1000)):
                return True
    finally:
        os.close(process)
    raise LifecycleError(f"local Daytona (pid {pid}) does not end", fix="restart this machine")


def is_held(state: Path) -> bool:
    if not state.is_dir():
        return False
    try:
        os.close(lock(state))
    except LifecycleError:
        return True
    return False


def this_command(*arguments: str) -> list[str]:
    """The command line of this package's own `python3 scripts/local_daytona ARGUMENTS`."""
    return [sys.executable, "-I", str(Path(__file__).resolve().parent), *arguments]
