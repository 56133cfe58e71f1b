"""python3 .ci/set_version.py X.Y.Z: sets the version of the project.

Its place is scripts/skill_env.py; the files that must repeat it are written as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# (file, pattern with the version as its second group)
PLACES = (
    ("scripts/skill_env.py", r'(^VERSION = ")([^"]+)(")'),
    (".claude-plugin/plugin.json", r'(^  "version": ")([^"]+)(")'),
    ("SKILL.md", r'(^  version: ")([^"]+)(")'),
    ("pyproject.toml", r'(^version = ")([^"]+)(")'),
)


def set_version(version: str, root: Path = ROOT) -> None:
    """Raises ValueError when a file has not exactly one place for it."""
    for name, pattern in PLACES:
        text, count = re.subn(
            pattern, rf"\g<1>{version}\g<3>", (root / name).read_text(), flags=re.MULTILINE
        )
        if count != 1:
            raise ValueError(f"{name} has {count} places for the version")
        (root / name).write_text(text)


def main(argv: Sequence[str] | None = None) -> int:
    """2 when the version is not three numbers."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+", words[0]):
        print("usage: python3 .ci/set_version.py X.Y.Z", file=sys.stderr)
        return 2
    set_version(words[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
