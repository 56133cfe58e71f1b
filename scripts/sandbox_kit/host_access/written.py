"""What earlier runs made in projects.

`--force` replaces such a file while nobody has changed it, and text may lie in such a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import skill_env

from ..state_files import prune_once, write_private

CHUNK = 1 << 20
MARK = "user.daytona-sandbox"  # an attribute of folders
KEPT_DAYS = 90  # longer than logs: a chart is made again after weeks


def new_digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def digest_of(stream: IO[bytes]) -> str:
    """Of all that is left to read."""
    digest = new_digest()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return str(digest.hexdigest())


def records_dir() -> Path:
    return skill_env.client_state_dir() / "written"


class WrittenRecord:
    """The files and folders of one run as they come, and a look at those of all runs.

    A file counts by its path, its content and its inode: the same bytes in a file of the user's own
    are the user's.
    """

    def __init__(self, run_id: str, made: Mapping[str, str] | None = None) -> None:
        self._path = records_dir() / f"{run_id}.json"
        self.made = dict(made or {})  # path -> what it was when it was made
        self._earlier: list[dict[str, str]] | None = None

    def note_file(self, path: Path, digest: str, inode: int) -> None:
        self.made[str(path)] = f"{digest} {inode}"

    def note_folder(self, path: Path, status: os.stat_result) -> None:
        """One that this run made; it is marked as such, where the file system takes marks."""
        with contextlib.suppress(OSError, AttributeError):
            os.setxattr(path, MARK, self._path.stem.encode(), follow_symlinks=False)
        self.made[str(path)] = folder_mark(path, status)

    def save(self) -> None:
        """One small file a run; raises OSError."""
        if self.made:
            prune_once(records_dir(), "*.json", days=KEPT_DAYS)
            write_private(self._path, json.dumps(self.made).encode())

    def wrote(self, path: Path, stream: IO[bytes]) -> bool:
        """Whether an earlier run wrote exactly the file that is open as `stream`."""
        return str(path) not in self.made and self._has(
            path, f"{digest_of(stream)} {os.fstat(stream.fileno()).st_ino}"
        )

    def made_folder(self, path: Path, status: os.stat_result | None = None) -> bool:
        """Whether a run made the folder that is there under this path, or is open as `status`."""
        if status is None:
            try:
                status = os.stat(path, follow_symlinks=False)
            except OSError:
                return False
        return stat.S_ISDIR(status.st_mode) and self._has(path, folder_mark(path, status))

    def _has(self, path: Path, mark: str) -> bool:
        if self._earlier is None:
            self._earlier = read_records()
        return mark in [made.get(str(path)) for made in (self.made, *self._earlier)]


def folder_mark(path: Path, status: os.stat_result) -> str:
    """Which folder it is: device, inode, and the mark of the run that made it.

    An inode is used again when a folder is gone: without marks (another system than Linux, a file
    system that has none) whoever makes a folder anew under that name may be taken for a run.
    """
    mark = ""
    with contextlib.suppress(OSError, AttributeError):
        mark = " " + os.getxattr(path, MARK, follow_symlinks=False).decode(errors="replace")
    return f"folder {status.st_dev} {status.st_ino}{mark}"


def read_records() -> list[dict[str, str]]:
    """Of all runs that are not pruned; what cannot be read says nothing."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(records_dir()):
            with contextlib.suppress(OSError, ValueError):
                record = json.loads((records_dir() / name).read_bytes())
                if isinstance(record, dict):
                    found.append(record)
    return found
