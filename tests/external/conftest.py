"""Fresh clones for fresh users."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
PASSED_ON = ("PIP_", "UV_", "SSL_CERT", "REQUESTS_CA", "CURL_CA", *PROXIES)


@dataclass(frozen=True)
class Newcomer:
    """A user with a home and a clone of their own.

    Commands run in a clean environment, with the system's python3.
    """

    name: str
    home: Path
    clone: Path
    extra: tuple[tuple[str, str], ...] = ()

    def type(
        self, line: str, *, cwd: Path | None = None, timeout: int = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line as this user."""
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)
        }
        environment |= {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **dict(self.extra),
        }
        user = (
            {}
            if self.name == pwd.getpwuid(os.geteuid()).pw_name
            else {"user": self.name, "group": self.name, "extra_groups": []}
        )
        done: subprocess.CompletedProcess[str] = subprocess.run(
            ["sh", "-c", line],
            cwd=cwd or self.clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
            **user,  # type: ignore[call-overload]  # user and group take names
        )
        return done


def copy_tracked(target: Path) -> None:
    """What a clone would hold: the files that git knows or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@contextlib.contextmanager
def fresh_home(name: str, home: Path) -> Iterator[Newcomer]:
    """A closed home with a clone in a folder with a space in its name."""
    clone = home / "my skills" / "daytona-sandbox"
    clone.mkdir(parents=True)
    copy_tracked(clone)
    if os.geteuid() == 0 and name != "root":
        subprocess.run(["chown", "-R", f"{name}:{name}", str(home)], check=True)
    home.chmod(0o700)
    newcomer = Newcomer(name, home, clone)
    try:
        yield newcomer
    finally:
        stopped = newcomer.type("python3 scripts/local_daytona stop", timeout=120)
        assert stopped.returncode == 0, stopped.stderr
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def ordinary() -> Iterator[Newcomer]:
    """An ordinary user with a home of its own: a new one where we are root, else this one."""
    if os.geteuid() != 0:
        with fresh_home(
            pwd.getpwuid(os.geteuid()).pw_name, Path(tempfile.mkdtemp(prefix="newcomer-"))
        ) as newcomer:
            yield newcomer
        return
    name = f"newcomer{os.getpid()}"
    subprocess.run(
        ["useradd", "--create-home", "--user-group", name], check=True, capture_output=True
    )
    try:
        with fresh_home(name, Path(pwd.getpwnam(name).pw_dir)) as newcomer:
            yield newcomer
    finally:
        subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


@pytest.fixture(scope="session")
def root() -> Iterator[Newcomer]:
    """root, whose home is closed to the spare uid that sandboxes run as."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with fresh_home("root", Path(tempfile.mkdtemp(prefix="newcomer-", dir="/root"))) as newcomer:
        yield newcomer
