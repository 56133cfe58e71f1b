"""python3 .ci/build_zip.py [FOLDER]: makes daytona-sandbox.zip for claude.ai.

It holds only what a skill needs; two builds of one commit have the same bytes.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "daytona-sandbox"  # the folder must lie inside the zip and bear the skill's name
PARTS = (
    "SKILL.md",
    "LICENSE",
    "reference/*.md",
    "examples/*.md",
    "scripts/**/*.py",
    "scripts/local_daytona/isolation/programs/*",
    "scripts/*.lock",
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can hold
READABLE, EXECUTABLE = 0o644 << 16, 0o755 << 16


def files() -> list[Path]:
    """What goes in; raises ValueError for a pattern that matches nothing."""
    found: list[Path] = []
    for pattern in PARTS:
        matched = sorted(ROOT.glob(pattern))
        if not matched:
            raise ValueError(f"nothing matches {pattern}")
        found += matched
    return found


def build(folder: Path) -> Path:
    """Write the zip into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{NAME}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files():
            entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(ROOT).as_posix()}", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = EXECUTABLE if os.access(path, os.X_OK) else READABLE
            archive.writestr(entry, path.read_bytes())
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Print the path of the zip."""
    words = sys.argv[1:] if argv is None else argv
    print(build(Path(words[0]) if words else ROOT / "dist"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
