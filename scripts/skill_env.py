"""Where this skill lives on this machine: its interpreter, its folders, its version.

Scripts are started with whatever python3 the caller has. `enter()` puts them into the skill's own
environment, which `healthcheck.py --install` makes. Standard library only; the file parses on
Python 3.8, so that an old interpreter gets a sentence, not a SyntaxError.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    Missing = Literal["sdk_missing", "sdk_version"]  # of the client's kinds of failure

VERSION = "0.1.0"
SKILL = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
SDK_FROM, SDK_BELOW = (0, 226), (2,)
NEEDED = ("daytona", "python-dotenv", "dulwich")
LOCAL_ENGINE = ("aiohttp", "python-socketio")
STAMP = "daytona-sandbox.stamp"  # written last: an environment of ours without it was interrupted


class NotInstalled(Exception):
    """No interpreter here can run the skill."""

    def __init__(self, message: str, *, kind: Missing, fix: str) -> None:
        super().__init__(message)
        self.kind: Missing = kind
        self.fix = fix


def data_dir() -> Path:
    """Where the skill's own environment lies, per user."""
    return _user_dir("XDG_DATA_HOME", ".local/share")


def client_state_dir() -> Path:
    """Where the client keeps logs, per user, also for root."""
    return _user_dir("XDG_STATE_HOME", ".local/state")


def local_state_dir() -> Path:
    """Where local Daytona keeps everything; a root server's spare uid has to pass through it."""
    chosen = os.environ.get("DAYTONA_LOCAL_STATE", "")
    if os.path.isabs(chosen):  # a relative one would be whatever lies in the working directory
        return Path(chosen)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and os.access("/var/lib", os.W_OK):  # root of a user's own namespace may not
        return Path("/var/lib/daytona-sandbox")
    return client_state_dir() / "local"


def _user_dir(variable: str, below_home: str) -> Path:
    """XDG's rule: an absolute path in `variable`, else below the home; LOCALAPPDATA on Windows."""
    chosen = os.environ.get("LOCALAPPDATA" if os.name == "nt" else variable, "")
    base = Path(chosen) if os.path.isabs(chosen) else home() / below_home
    return base / "daytona-sandbox"


def home() -> Path:
    """The user's; a relative HOME is none, and the system's record counts."""
    found = Path.home()
    if found.is_absolute() or not hasattr(os, "geteuid"):
        return found
    import pwd

    return Path(pwd.getpwuid(os.geteuid()).pw_dir)


def server_version() -> str:
    """The version, and a digest of the server's sources, so that a server of older code shows."""
    digest = hashlib.sha256()
    for path in sorted((SKILL / "scripts" / "local_daytona").rglob("*")):
        if path.suffix in ("", ".py") and path.is_file():
            digest.update(path.read_bytes())
    return f"{VERSION}+{digest.hexdigest()[:8]}"


def enter(*, extra: Sequence[str] = ()) -> None:
    """Go on in an interpreter that has the SDK in range, python-dotenv, dulwich and `extra`.

    That is this one if it does. Otherwise this process is replaced by the same command line in the
    skill's environment. Raises NotInstalled.
    """
    if problem(sys.path, extra) is None:
        return
    last = None
    for folder in environments():
        python = python_of(folder)
        if (
            not os.path.exists(python)  # also where another user's interpreter is out of reach
            or os.path.realpath(sys.prefix) == os.path.realpath(folder)
            or not is_whole(folder)
        ):
            continue
        last = lack([str(path) for path in site_packages(folder)], extra)
        if last is None:
            _continue_in(python)
    if last is not None and last.kind == "sdk_version":
        raise last
    raise too_old() or NotInstalled(
        "the skill's environment is not installed", kind="sdk_missing", fix=install_command()
    )


def environments() -> list[Path]:
    """A developer's clone, then what --install made; never anything in the working directory."""
    return [SKILL / ".venv", data_dir() / "venv"]


def install_command(python: str = "python3") -> str:
    return command("healthcheck.py", "--install", python=python)


def command(script: str, *words: str, python: str = "python3") -> str:
    """A line that a shell takes, from whatever folder: `python3 -I "…/script" words`.

    It is spelled as SKILL.md's allowed-tools spell it.
    """
    return " ".join(
        (python, "-I", double_quoted(str(SKILL / "scripts" / script)), *map(quoted, words))
    )


def double_quoted(text: str) -> str:
    return quoted(text) if any(c in '"$`\\!' for c in text) else f'"{text}"'


def quoted(text: str) -> str:
    """One word for a shell; shlex costs more than the rest of this file."""
    plain = text and all((c.isalnum() and c.isascii()) or c in "/._-+:=,@%" for c in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"


def project_around(folder: str, home: str) -> str | None:
    """What lies directly below the home, or below the root, and holds `folder`.

    None where that is the home's or the machine's own. Wider than any project: whoever chooses the
    working directory may choose one beside the folder that PATH names.
    """
    base = home if folder.startswith(os.path.join(home, "")) else os.sep
    parts = os.path.relpath(folder, base).split(os.sep)
    return None if folder in (home, os.sep) or os.name == "nt" else os.path.join(base, parts[0], "")


def find_program(name: str) -> str | None:
    """A program on PATH, but for entries that are empty, relative, or in the working directory.

    A repository must not bring it.
    """
    here = project_around(os.path.realpath(os.getcwd()), os.path.realpath(home()))
    endings = os.environ.get("PATHEXT", ".EXE").split(os.pathsep) if os.name == "nt" else [""]
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(entry) and not (
            here and os.path.join(os.path.realpath(entry), "").startswith(here)
        ):
            for ending in endings:
                path = os.path.join(entry, name + ending)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    return path
    return None


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(folder: Path) -> list[Path]:
    return list(
        folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages")
    )


def is_whole(folder: Path) -> bool:
    """False for one of ours that was interrupted; a developer's own has no stamp and is whole."""
    return (folder / STAMP).exists() or folder == SKILL / ".venv"


def _continue_in(python: Path) -> None:
    """Returns only when that interpreter cannot be started, as after some system upgrades."""
    arguments = [str(python), "-I", *sys.argv]
    try:
        if os.name != "nt":
            os.execv(str(python), arguments)
        import subprocess

        raise SystemExit(subprocess.call(arguments))
    except OSError:
        return


def problem(path: Sequence[str], extra: Sequence[str] = ()) -> NotInstalled | None:
    """Why this interpreter cannot run the skill with that import path."""
    return too_old() or lack(path, extra)


def too_old() -> NotInstalled | None:
    """Why this interpreter will not do, or None; the fix names a newer one where PATH has it.

    Its environment then serves the old one too.
    """
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return None
    found = ".".join(str(part) for part in sys.version_info[:2])
    newer = next((name for name in NEWER_PYTHONS if find_program(name)), None)
    fix = (
        install_command(newer)
        if newer
        else f"install Python 3.10 or newer, then: {install_command('python3.X')}"
    )
    return NotInstalled(
        f"Python {found} is too old; 3.10 or newer is needed", kind="sdk_missing", fix=fix
    )


def lack(path: Sequence[str], extra: Sequence[str] = ()) -> NotInstalled | None:
    """What is missing or out of range on an import path, by metadata: nothing is imported."""
    versions = distributions(path)
    missing = [name for name in (*NEEDED, *extra) if name.replace("-", "_") not in versions]
    if missing:
        return NotInstalled(
            f"{', '.join(missing)} not installed", kind="sdk_missing", fix=install_command()
        )
    sdk = versions["daytona"]
    if not SDK_FROM <= sdk < SDK_BELOW:
        shown = ".".join(str(part) for part in sdk)
        return NotInstalled(
            f"daytona {shown} has another API; this skill needs 0.226 or newer, below 2",
            kind="sdk_version",
            fix=install_command(),
        )
    return None


def distributions(path: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """{name_with_underscores: version} of what is installed on `path`.

    importlib.metadata costs ten times as much.
    """
    found: dict[str, tuple[int, ...]] = {}
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                project, _, version = name[: -len(".dist-info")].partition("-")
                found.setdefault(
                    project.lower().replace("-", "_").replace(".", "_"), numbers(version)
                )
    return found


def numbers(version: str) -> tuple[int, ...]:
    """(0, 226, 1) of 0.226.1; what follows a number (rc1, .dev0) is left out."""
    parts: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)
