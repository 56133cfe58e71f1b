"""python3 -m tests.external.tools: other projects' validators, pinned and hashed, into <clone>/.external; a second call is quick."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import skill_install  # noqa: E402  (the folder above must come first)

FOLDER = ROOT / ".external" / "python"
LOCK = Path(__file__).with_name("requirements.lock")  # needs Python 3.11: skills-ref does


def main() -> int:
    """0, or 1 when a tool could not be installed."""
    try:
        skill_install.install(FOLDER, lock=LOCK)
    except skill_install.InstallFailed as failure:
        print(f"[sandbox] {failure}\nfix: {failure.fix}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
