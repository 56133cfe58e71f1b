"""Small files of the client's state: private, whole or not there, deleted after a week."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

KEPT_DAYS = 7


def write_private(path: Path, data: bytes) -> None:
    """In one step, for this user only; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Runs and threads take turns at what `path` names; without locks, the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path.with_name(f".{path.name}.lock"), "ab") as sandbox:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(sandbox, fcntl.LOCK_EX)
        yield


def prune_old_files(folder: Path, pattern: str, *, days: int = KEPT_DAYS) -> None:
    """Delete what matches in `folder` and is older than that, folders with their content."""
    oldest = time.time() - days * 24 * 3600
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if not fnmatch(entry.name, pattern):
                    continue
                if entry.stat(follow_symlinks=False).st_mtime >= oldest:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@functools.cache
def prune_once(folder: Path, pattern: str, *, days: int = KEPT_DAYS) -> None:
    """As `prune_old_files`, but once a process: a thousand values need not look again."""
    prune_old_files(folder, pattern, days=days)
