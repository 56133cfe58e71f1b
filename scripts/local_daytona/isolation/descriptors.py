"""What a descriptor from inside is: nobody believes who sent it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
from collections.abc import Sequence

from ..errors import SandboxGone
from .control_socket import close_all
from .usage import is_terminal_master

LIBC = ctypes.CDLL(None, use_errno=True)
# PROC_SUPER_MAGIC and SYSFS_MAGIC of include/uapi/linux/magic.h
KERNEL_FILE_SYSTEMS = (0x9FA0, 0x62656572)


def own_descriptions(fifos: Sequence[int]) -> list[int]:
    """The same FIFOs opened by this server, never blocking; raises SandboxGone.

    Whoever shares a description can make its other users wait.
    """
    opened: list[int] = []
    try:
        for fd in fifos:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            flags = mode | os.O_NONBLOCK | os.O_CLOEXEC
            opened.append(os.open(f"/proc/self/fd/{fd}", flags))
    except OSError as error:
        close_all(opened)
        raise SandboxGone(f"the sandbox's pipes cannot be opened: {error.strerror}") from None
    return opened


def is_readable_file(fd: int) -> bool:
    return is_plain_file(fd) and access_mode(fd) in (os.O_RDONLY, os.O_RDWR)


def is_writable_file(fd: int) -> bool:
    return is_plain_file(fd) and access_mode(fd) in (os.O_WRONLY, os.O_RDWR)


def is_plain_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and not is_kernel_file(fd)


def access_mode(fd: int) -> int:
    """O_RDONLY, O_WRONLY or O_RDWR; -1 for a descriptor that only names a file."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return -1 if flags & os.O_PATH else flags & os.O_ACCMODE


def is_terminal(fd: int) -> bool:
    return is_terminal_master(os.fstat(fd))


def is_stream_socket(fd: int) -> bool:
    """TCP, of IPv4 or IPv6: a UNIX socket could carry more descriptors."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as found:
        is_internet = found.family in (socket.AF_INET, socket.AF_INET6)
        return is_internet and found.type == socket.SOCK_STREAM


def is_kernel_file(fd: int) -> bool:
    """Whether a descriptor is of procfs or sysfs; the agent's own refusal is not believed."""
    answer = ctypes.create_string_buffer(512)  # struct statfs begins with its f_type, a long
    if LIBC.fstatfs(fd, answer) != 0:
        return True
    return ctypes.c_long.from_buffer(answer).value in KERNEL_FILE_SYSTEMS
