"""Opening and making files of this machine, folder by folder, without following a link.

What was opened is what is used: between a look at a path and its use it may have become another.
Windows knows no descriptors of folders; there the resolved path has to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from ..console import quote_path
from ..errors import UsageFailure

BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd
# Neither to wait for a pipe nor to follow a link that replaced the file; Windows has neither flag,
# and one of its own.
READ_ONLY = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
NEW = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
PASS_THROUGH = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
FOLDER_MODE = 0o755
FolderJudge = Callable[[os.stat_result], None]
# (its path, what it is, whether it was made just now), for each folder on the way.
FolderWatch = Callable[[Path, os.stat_result, bool], None]


def refuse_folders(identities: frozenset[tuple[int, int]], refusal: Exception) -> FolderJudge:
    """A judge that raises `refusal` for any of these folders, by whatever name they are reached.

    `identities` are pairs of device and inode.
    """

    def judge(status: os.stat_result) -> None:
        if (status.st_dev, status.st_ino) in identities:
            raise refusal

    return judge


class OpenFolder:
    """A folder held open: what is done in it is done there, whatever becomes of its name."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def __enter__(self) -> OpenFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _name(self, name: str) -> str | Path:
        return name if self._descriptor is not None else self.path / name

    def open(self, name: str, flags: int, mode: int = 0o644) -> int:
        """A descriptor of a file in it; raises OSError."""
        return os.open(self._name(name), flags, mode, dir_fd=self._descriptor)

    def look(self, name: str) -> os.stat_result | None:
        """What is there under that name, a link as a link; None for nothing."""
        try:
            return os.stat(self._name(name), dir_fd=self._descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name(name), dir_fd=self._descriptor)

    def put(self, part: str, name: str, *, replace: bool) -> None:
        """Give a whole file its name.

        Raises FileExistsError for one that is there, unless that is to be replaced.
        """
        if not replace:
            try:
                os.link(
                    self._name(part),
                    self._name(name),
                    src_dir_fd=self._descriptor,
                    dst_dir_fd=self._descriptor,
                    follow_symlinks=False,
                )
            except OSError as error:
                if isinstance(error, FileExistsError) or self.look(name) is not None:
                    raise
            else:
                self.remove(part)
                return
        os.replace(
            self._name(part),
            self._name(name),
            src_dir_fd=self._descriptor,
            dst_dir_fd=self._descriptor,
        )

    def link(self, target: str, name: str) -> None:
        os.symlink(target, self._name(name), dir_fd=self._descriptor)

    def make(self, name: str) -> bool:
        """Whether that made a folder; False for what is there. Raises OSError."""
        try:
            os.mkdir(self._name(name), FOLDER_MODE, dir_fd=self._descriptor)
        except FileExistsError:
            return False
        return True

    def enter(self, name: str) -> OpenFolder:
        """A folder in it; raises OSError for a link or a file."""
        if self._descriptor is None:
            status = os.stat(self.path / name, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path / name))
            return OpenFolder(self.path / name, None)
        return OpenFolder(self.path / name, os.open(name, PASS_THROUGH, dir_fd=self._descriptor))

    def status(self) -> os.stat_result:
        return os.stat(self.path) if self._descriptor is None else os.fstat(self._descriptor)


def open_folder(
    path: Path,
    *,
    make: bool = False,
    judge: FolderJudge | None = None,
    watch: FolderWatch | None = None,
) -> OpenFolder:
    """A folder by its absolute path without links; raises OSError.

    Every folder on the way is opened and shown to `judge` and `watch`, which may raise.
    """
    anchor = Path(path.anchor)
    folder = OpenFolder(anchor, os.open(anchor, PASS_THROUGH) if BY_DESCRIPTOR else None)
    try:
        for name in path.relative_to(anchor).parts:
            made = make and folder.make(name)
            inner = folder.enter(name)
            folder.close()
            folder = inner
            if judge is not None:
                judge(folder.status())
            if watch is not None:
                watch(folder.path, folder.status(), made)
    except BaseException:
        folder.close()
        raise
    return folder


def open_regular_file(flag: str, given: str, folder: OpenFolder, name: str) -> IO[bytes]:
    """A file opened without following a link or waiting for a pipe.

    Raises UsageFailure for anything but a regular file.
    """
    try:
        stream = os.fdopen(folder.open(name, READ_ONLY), "rb")
    except OSError as error:
        raise UsageFailure(
            f"{flag} {quote_path(given)}: {error.strerror}",
            fix="name a file that exists and can be read",
        ) from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise UsageFailure(f"{flag} {quote_path(given)} is not a regular file", fix="name a file")
    return stream
