"""Copying a tree that hostile code wrote, and may be writing at this moment.

Only descriptors and single names are used, never a path that the code could bend meanwhile; links
stay links, what is no file, folder or link is left out, and bytes, entries and depth are bounded.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CopyStopped
from .host import Owner

MOST_ENTRIES = 2_000_000
MOST_DEPTH = 200  # each level holds two descriptors open while it is copied
CHUNK = 8 * 1024 * 1024
MODE_BITS = 0o1777  # set-uid bits would outlive the sandbox and mean nothing in the next one
# What overlayfs notes in a layer about the template below it; its other attributes name inodes of
# this machine, and are rebuilt.
OVERLAY_NOTES = ("user.overlay.opaque", "user.overlay.whiteout")
# The code inside replaced it between two looks.
MOVED = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Budget:
    """What a copy may still take; its methods raise OSError when it is used up.

    `stop` may be set from another thread: then they raise CopyStopped.
    """

    bytes: int
    entries: int = MOST_ENTRIES
    copied: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def entry(self) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise OSError(errno.EFBIG, f"it holds more than {MOST_ENTRIES} files")
        self.go_on()

    def data(self, count: int) -> None:
        self.copied += count
        if self.copied > self.bytes:
            raise OSError(errno.EFBIG, f"its files take more than {self.bytes >> 20} MiB")
        self.go_on()

    def go_on(self) -> None:
        if self.stop.is_set():
            raise CopyStopped


class TreeCopy:
    """One copy; hard links within it stay hard links.

    `layer` says that it is an overlay's upper folder, whose whiteouts are kept.
    """

    def __init__(self, target: Path, owner: Owner, budget: Budget, *, layer: bool) -> None:
        self._target = target
        self._owner = owner
        self._budget = budget
        self._layer = layer
        self._linked: dict[tuple[int, int], str] = {}
        self._top = -1

    def run(self, source: Path) -> None:
        """Copy what lies in the folder `source` to the new target; raises OSError, CopyStopped."""
        os.mkdir(self._target, 0o700)
        from_fd = open_folder(str(source), None)
        try:
            self._top = open_folder(str(self._target), None)
            try:
                self._folder(from_fd, self._top, ())
            finally:
                os.close(self._top)
        finally:
            os.close(from_fd)

    def _folder(self, source: int, target: int, way: Sequence[str]) -> None:
        if len(way) > MOST_DEPTH:
            raise OSError(errno.EFBIG, f"its folders are nested more than {MOST_DEPTH} deep")
        with os.scandir(source) as entries:
            for entry in entries:
                self._budget.entry()
                self._entry(source, target, entry.name, way)
        self._finish(source, target, os.fstat(source))

    def _entry(self, source: int, target: int, name: str, way: Sequence[str]) -> None:
        try:
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self._link(source, target, name)
            elif stat.S_ISDIR(status.st_mode):
                self._subfolder(source, target, name, way)
            elif stat.S_ISREG(status.st_mode):
                self._file(source, target, name, way)
            elif self._layer and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                # overlayfs' mark of a deleted file; no driver answers to it
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=target)
        except OSError as error:
            if error.errno not in MOVED:
                raise

    def _link(self, source: int, target: int, name: str) -> None:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        if self._owner.dropped:
            os.chown(name, self._owner.uid, self._owner.gid, dir_fd=target, follow_symlinks=False)

    def _subfolder(self, source: int, target: int, name: str, way: Sequence[str]) -> None:
        below = open_folder(name, source)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            copy = open_folder(name, target)
            try:
                self._folder(below, copy, (*way, name))
            finally:
                os.close(copy)
        finally:
            os.close(below)

    def _file(self, source: int, target: int, name: str, way: Sequence[str]) -> None:
        fd = os.open(name, READ, dir_fd=source)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or self._is_linked(status, target, name, way):
                return
            copy = os.open(name, CREATE, 0o600, dir_fd=target)
            try:
                self._content(fd, copy, status.st_size)
                self._finish(fd, copy, status)
            finally:
                os.close(copy)
        finally:
            os.close(fd)

    def _is_linked(
        self, status: os.stat_result, target: int, name: str, way: Sequence[str]
    ) -> bool:
        """Whether it was copied under another name already, and is linked to that now.

        Nobody else writes to our copy.
        """
        if status.st_nlink < 2:
            return False
        known = self._linked.setdefault((status.st_dev, status.st_ino), os.path.join(*way, name))
        if known == os.path.join(*way, name):
            return False
        try:
            os.link(known, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
        except OSError:
            # A path too long, a count too high, or a first copy that failed: then it is a file of
            # its own.
            return False
        return True

    def _content(self, source: int, target: int, size: int) -> None:
        """The data up to the size it had when it was opened; holes stay holes."""
        os.ftruncate(target, size)
        place = 0
        while place < size:
            try:
                start = os.lseek(source, place, os.SEEK_DATA)
                end = min(os.lseek(source, start, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here, or it shrank
                    return
                raise
            self._range(source, target, start, end)
            place = max(end, place + 1)

    def _range(self, source: int, target: int, start: int, end: int) -> None:
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            self._budget.data(min(CHUNK, end - start))
            count = os.sendfile(target, source, start, min(CHUNK, end - start))
            if count == 0:
                return
            start += count

    def _finish(self, source: int, target: int, status: os.stat_result) -> None:
        """Owner, mode and times, and in a layer what overlayfs noted."""
        if self._layer:
            copy_notes(source, target)
        if self._owner.dropped:
            os.chown(target, self._owner.uid, self._owner.gid)
        os.chmod(target, status.st_mode & MODE_BITS)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def open_folder(name: str, beside: int | None) -> int:
    """A folder by its name in `beside`; raises OSError for a link or a file."""
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=beside)


def copy_notes(source: int, target: int) -> None:
    for name in OVERLAY_NOTES:
        try:
            value = os.getxattr(source, name)
        except OSError:
            continue
        os.setxattr(target, name, value)
