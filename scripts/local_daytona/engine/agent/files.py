"""The file system as seen from inside the sandbox: every path is resolved here, never on the host."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import stat

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Values = dict[str, Any]

WRITE_CHUNK = 64 * 1024


def open_regular(request: Values) -> int:
    """A descriptor of a regular file; a FIFO, device or folder is refused without being waited for."""
    path = request["path"]
    if request["mode"] == "r":
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        refuse_unless_plain(fd)
        if request["mode"] == "w":
            os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def refuse_unless_plain(fd: int) -> None:
    """Only regular files on storage: /proc checks the writer, and the server that gets this descriptor may be root."""
    status = os.fstat(fd)
    code = 0
    if stat.S_ISDIR(status.st_mode):
        code = errno.EISDIR
    elif not stat.S_ISREG(status.st_mode):
        code = errno.EINVAL
    elif status.st_dev == os.stat("/proc").st_dev:
        code = errno.EACCES
    if code:
        raise OSError(code, os.strerror(code))


def make_fifos(folder: str, readers: Sequence[str], writers: Sequence[str]) -> list[int]:
    """Ends of new FIFOs in the new private `folder`: one to read from each of `readers`, one to write to each of `writers`.

    A writer is opened for both directions: that never blocks, and keeps the FIFO open for the program that reads it.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    opened = []
    for name, flags in [(name, os.O_RDONLY) for name in readers] + [(name, os.O_RDWR) for name in writers]:
        path = os.path.join(folder, name)
        os.mkfifo(path, 0o600)
        opened.append(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    return opened


def run(request: Values, answer: int, *, keep: Sequence[int]) -> None:
    """In a child of the agent: do the named operation and write {"value": …} or {"error", "message"} to `answer`."""
    leave_only(keep)
    try:
        reply = {"value": OPERATIONS[request["action"]](request)}
    except OSError as error:
        reply = {"error": error.errno or 0, "message": error.strerror or str(error)}
    data = json.dumps(reply).encode()
    for start in range(0, len(data), WRITE_CHUNK):
        os.write(answer, data[start : start + WRITE_CHUNK])


def leave_only(keep: Sequence[int]) -> None:
    """Close what the agent held, above all the control socket: this child must not keep the sandbox alive."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass


def info(request: Values) -> Values:
    return describe(request["path"])


def list_folder(request: Values) -> list[Values]:
    """The folder's entries, `depth` levels down, each with its full path; symlinked folders are not entered."""
    entries: list[Values] = []

    def visit(folder: str, depth: int) -> None:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            try:
                entry = describe(path)
            except OSError:
                continue
            entries.append(entry)
            if depth > 1 and entry["isDir"] and not os.path.islink(path):
                try:
                    visit(path, depth - 1)
                except OSError:  # a folder that may not be read is shown, not entered
                    continue

    visit(request["path"], request["depth"])
    return entries


def describe(path: str) -> Values:
    """FileInfo of the toolbox API (wire-protocol 3.5): owner and group numeric, permissions as in `0644`."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        status = os.lstat(path)
    try:
        modified = datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):  # a time of its own making, beyond the calendar
        modified = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    return {
        "name": os.path.basename(path.rstrip("/")) or "/",
        "path": path,
        "size": status.st_size,
        "mode": stat.filemode(status.st_mode),
        "permissions": "%04o" % stat.S_IMODE(status.st_mode),
        "modTime": modified.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "modifiedAt": modified.isoformat().replace("+00:00", "Z"),
        "isDir": stat.S_ISDIR(status.st_mode),
        "owner": str(status.st_uid),
        "group": str(status.st_gid),
    }


def make_folder(request: Values) -> None:
    os.makedirs(request["path"], mode=0o755, exist_ok=True)
    os.chmod(request["path"], request["mode"])


def delete(request: Values) -> None:
    path = request["path"]
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
    elif request["recursive"]:
        shutil.rmtree(path)
    else:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))


OPERATIONS: dict[str, Callable[[Values], object]] = {"info": info, "list": list_folder, "mkdir": make_folder, "delete": delete}
