"""python3 -m tests: make or refresh <clone>/.venv, then run the suite in it.

Further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
MOST_WORKERS = 4  # each has a server of its own

import skill_env  # noqa: E402  (the folder above must come first)
import skill_install  # noqa: E402


def side_by_side(arguments: Sequence[str]) -> list[str]:
    """A worker a core and one more, because most tests wait; a file stays in one of them.

    None for the cloud, nor where the caller decides.
    """
    if any(word in arguments for word in ("-n", "--cloud", "--pdb", "-s")):
        return []
    return ["-n", str(min(MOST_WORKERS, 1 + (os.cpu_count() or 1))), "--dist", "loadfile"]


def main(argv: Sequence[str] | None = None) -> int:
    """pytest's exit code, or 1 when the environment could not be made."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        folder = skill_install.install(ROOT / ".venv", lock=ROOT / "tests" / "requirements.lock")
    except skill_install.InstallFailed as failure:
        print(f"[sandbox] {failure}\nfix: {failure.fix}", file=sys.stderr)
        return 1
    hidden = (
        "PYTHONPATH" if "--cloud" in arguments else ("DAYTONA_", "PYTHONPATH")
    )  # the suite proper must not find a key
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [str(skill_env.python_of(folder)), "-m", "pytest", *side_by_side(arguments), *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
