"""What a plain file is, and how a name is told: shared by everything here that opens files."""

from __future__ import annotations

import errno
import os
import stat


def refuse_unless_plain(fd: int) -> None:
    """Raises OSError for all but regular files on storage.

    /proc checks the writer, and the server that gets this descriptor may be root.
    """
    status = os.fstat(fd)
    code = 0
    if stat.S_ISDIR(status.st_mode):
        code = errno.EISDIR
    elif not stat.S_ISREG(status.st_mode):
        code = errno.EINVAL
    elif status.st_dev == kernel_device():
        code = errno.EACCES
    if code:
        raise OSError(code, os.strerror(code))


def open_plain(path: str, flags: int) -> int:
    """A descriptor that was not waited for; raises OSError for a FIFO, device or folder."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        refuse_unless_plain(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def kernel_device() -> int:
    return os.stat("/proc").st_dev


def shown(path: str) -> str:
    """With U+FFFD for bytes that are no UTF-8, as Daytona has it."""
    return os.fsencode(path).decode(errors="replace")
