"""The SDK at both ends of pyproject's range, an environment each, below <clone>/.external/sdk.

The oldest is locked here. The newest is whatever the index has when the tools are installed; where
the index cannot be asked, the newest that is installed goes on, and NOTE says so in the test.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import tomllib

import skill_install

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".external" / "sdk"
OLDEST, NEWEST = FOLDER / "oldest", FOLDER / "newest"
OLDEST_LOCK = Path(__file__).parent / "sdk" / "requirements.lock"
NEWEST_LOCK = FOLDER / "newest.lock"  # made here, with the hashes that the index gave
NOTE = FOLDER / "newest.txt"
# An index that does not answer must not hold up everything else for pip's five retries.
BRIEFLY = ("--retries", "1", "--timeout", "60")
DRY_RUN = """
    install --dry-run --ignore-installed --only-binary :all: --no-input --quiet
    --disable-pip-version-check
""".split()


def install() -> None:
    """Both environments, whole and current; raises InstallFailed."""
    skill_install.install(OLDEST, lock=OLDEST_LOCK)
    FOLDER.mkdir(parents=True, exist_ok=True)
    NOTE.write_text(renew_lock())
    skill_install.install(NEWEST, lock=NEWEST_LOCK)


def renew_lock() -> str:
    """NEWEST_LOCK anew for another SDK on the index; what that said. Raises InstallFailed."""
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    try:
        newest = resolve([sdk_requirement()], "--no-deps", *BRIEFLY)
    except skill_install.InstallFailed as failure:
        if not NEWEST_LOCK.exists():
            raise
        print(f"[sandbox] the index was not asked for a newer SDK: {failure}", file=sys.stderr)
        return f"the newest installed; the index could not be asked on {today}: {failure}"
    made_from = first_line()
    if not {made_from, *newest} <= set(lines_of(NEWEST_LOCK)):
        NEWEST_LOCK.write_text("\n".join([made_from, *resolve(requirements()), ""]))
    return f"the newest on the index on {today}"


def lines_of(lock: Path) -> list[str]:
    return lock.read_text().splitlines() if lock.exists() else []


def first_line() -> str:
    """What the lock is made from, and for which Python: it has the hash of one wheel a package."""
    machine = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
    return f"# {machine}: {' '.join(requirements())}"


def requirements() -> list[str]:
    """What the scripts need, in pyproject's ranges, and the pytest of the oldest's lock."""
    [pytest] = re.findall(r"^pytest==[\w.]+", OLDEST_LOCK.read_text(), re.MULTILINE)
    return [*dependencies(), pytest]


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def sdk_requirement() -> str:
    """`daytona` with its range."""
    [found] = [line for line in dependencies() if re.match(r"daytona\W", line)]
    return found


def resolve(wanted: Sequence[str], *options: str) -> list[str]:
    """What pip would install from the configured index, as a lock's lines; raises InstallFailed."""
    with tempfile.TemporaryDirectory() as folder, skill_install.pip_command(FOLDER) as pip:
        report = Path(folder) / "report.json"
        command = [sys.executable, *pip[1:], *DRY_RUN, *options, "--report", str(report)]
        skill_install.run_pip([*command, *wanted])
        found = json.loads(report.read_text())["install"]
    return [pinned(**package) for package in found]


def pinned(metadata: dict[str, str], download_info: dict[str, dict[str, str]], **_: object) -> str:
    """One package of pip's report: its name, its version and the hash of its file."""
    name = metadata["name"].lower().replace("_", "-")
    digest = download_info["archive_info"]["hash"].replace("=", ":")
    return f"{name}=={metadata['version']} --hash={digest}"
