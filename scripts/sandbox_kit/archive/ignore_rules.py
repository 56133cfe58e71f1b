"""Which files of a folder git would ignore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..defaults import LARGEST_TEXT
from ..errors import UsageFailure
from ..host_access.folders import open_folder, open_regular_file


class IgnoreRules:
    """The .gitignore files of a tree and of the folders above it, as git reads them.

    The last matching line wins.
    """

    def __init__(self, top: Path) -> None:
        self._specs: list[tuple[Path, Any]] = []
        above = []
        for folder in (top, *top.parents):
            if (folder / ".git").exists():
                above = [parent for parent in top.parents if parent.is_relative_to(folder)]
                break
        for folder in reversed(above):
            self.read(folder)

    def read(self, folder: Path) -> None:
        """Take in the rules of `folder`, which hold below it."""
        import pathspec

        try:  # a repository under test may have a pipe of that name, or a link to /dev/zero
            with (
                open_folder(folder) as opened,
                open_regular_file("--upload", ".gitignore", opened, ".gitignore") as stream,
            ):
                text = stream.read(LARGEST_TEXT).decode(errors="replace")
        except (OSError, UsageFailure):
            return
        self._specs.append((folder, pathspec.GitIgnoreSpec.from_lines(text.splitlines())))

    def match(self, path: Path, *, folder: bool) -> bool:
        ignored = False
        for base, spec in self._specs:
            if path.is_relative_to(base):
                verdict = spec.check_file(
                    path.relative_to(base).as_posix() + ("/" if folder else "")
                ).include
                ignored = ignored if verdict is None else verdict
        return ignored
