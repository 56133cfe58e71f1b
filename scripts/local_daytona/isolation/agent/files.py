"""The file system as seen from inside the sandbox: paths are resolved here, never on the host."""

from __future__ import annotations

import datetime
import errno
import json
import os
import signal
import stat

import search
from plain import open_plain, shown

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Values = dict[str, Any]

WRITE_CHUNK = 64 * 1024
TIME_LIMIT_S = 100  # less than the server waits, so that it gets a reason
LARGEST_REPLACED = 64 * 1024 * 1024  # bytes of a file that is rewritten in memory
LISTED = 40_000  # entries of one answer, in at most so many bytes: the server takes no more
LARGEST_ANSWER = 8 * 1024 * 1024
SMALLER = "name a smaller folder, or less depth"
PERMISSIONS = 0o777  # what Go calls so: setuid, setgid and sticky are letters of its own
MODE_LETTERS: tuple[tuple[str, Callable[[int], object]], ...] = (
    ("d", stat.S_ISDIR),
    ("L", stat.S_ISLNK),
    ("D", lambda mode: stat.S_ISBLK(mode) or stat.S_ISCHR(mode)),
    ("p", stat.S_ISFIFO),
    ("S", stat.S_ISSOCK),
    ("u", lambda mode: mode & stat.S_ISUID),
    ("g", lambda mode: mode & stat.S_ISGID),
    ("c", stat.S_ISCHR),
    ("t", lambda mode: mode & stat.S_ISVTX),
)
# What a request that makes no sense raises, or a tree that makes none.
SENSELESS = (ValueError, OverflowError, RecursionError)
# What became of a folder while it was read, or is too deep for a path.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def open_regular(request: Values) -> int:
    """A descriptor of a regular file; FIFO, device and folder are refused without a wait."""
    path = request["path"]
    if request["mode"] == "r":
        return open_plain(path, os.O_RDONLY)
    make_folders(os.path.normpath(os.path.dirname(path)))
    fd = open_plain(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def make_fifos(folder: str, readers: Sequence[str], writers: Sequence[str]) -> list[int]:
    """Ends of new FIFOs in the new private `folder`: to read from `readers`, to write to `writers`.

    A writer is opened for both directions: that never blocks, and keeps the FIFO open for the
    program that reads it.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    opened = []
    ends = [(name, os.O_RDONLY) for name in readers] + [(name, os.O_RDWR) for name in writers]
    for name, flags in ends:
        path = os.path.join(folder, name)
        os.mkfifo(path, 0o600)
        opened.append(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    return opened


def run(request: Values, answer: int, *, keep: Sequence[int]) -> None:
    """In a child of the agent: do the operation and write its outcome to `answer`.

    As JSON: {"value": …}, or {"error": errno, "message": …}.
    """
    signal.set_wakeup_fd(-1)  # the agent's; its number may soon be another file's
    leave_only(keep)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(TIME_LIMIT_S)
    try:
        reply = {"value": OPERATIONS[request["action"]](request)}
    except OSError as error:
        reply = {"error": error.errno or 0, "message": error.strerror or str(error)}
    except MemoryError:
        reply = {"error": errno.ENOMEM, "message": "the sandbox has not enough memory for this"}
    except SENSELESS as error:
        reply = {"error": errno.EINVAL, "message": str(error)}
    data = json.dumps(reply).encode()
    if len(data) > LARGEST_ANSWER:
        reason = "the answer is longer than %d MiB; %s" % (LARGEST_ANSWER >> 20, SMALLER)
        data = json.dumps({"error": errno.E2BIG, "message": reason}).encode()
    signal.alarm(0)
    for start in range(0, len(data), WRITE_CHUNK):
        os.write(answer, data[start : start + WRITE_CHUNK])


def out_of_time(_number: int, _frame: object) -> None:
    reason = "this took too long; name a smaller folder, or use the sandbox's own programs"
    raise OSError(errno.ETIMEDOUT, reason)


def leave_only(keep: Sequence[int]) -> None:
    """Close what the agent held but `keep`.

    Above all the control socket: this child must not keep the sandbox alive.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass


def info(request: Values) -> Values:
    """FileInfo, by the name that was asked for: a `.` stays one."""
    found = describe(request["path"])
    return {**found, "name": request.get("name", found["name"])}


def list_folder(request: Values) -> list[Values]:
    """The folder's entries, `depth` levels down, each with its path below the one asked for.

    Symlinked folders are not entered; a link that leads nowhere is not listed.
    """
    search.go_to(request)
    entries: list[Values] = []

    def visit(folder: str, depth: int) -> None:
        for name in sorted(os.listdir(folder)):
            path = os.path.normpath(os.path.join(folder, name))
            try:
                entry = describe(path)
            except OSError:
                continue
            entries.append(entry)
            if len(entries) > LISTED:
                reason = "more than %d entries; %s" % (LISTED, SMALLER)
                raise OSError(errno.E2BIG, reason)
            if depth > 1 and entry["isDir"] and not os.path.islink(path):
                try:
                    visit(path, depth - 1)
                except PermissionError:  # a folder that may not be read is shown, not entered
                    continue
                except OSError as error:
                    if error.errno not in GONE:
                        raise

    visit(request["path"], request["depth"])
    return entries


def describe(path: str) -> Values:
    """FileInfo of the toolbox API (PROTOCOL.md, "Files")."""
    status = os.stat(path)
    day, time = moment(status.st_mtime_ns)
    return {
        "name": shown(os.path.basename(path.rstrip("/")) or "/"),
        "path": shown(path),
        "size": status.st_size,
        "mode": letters(status.st_mode),
        "permissions": "%04o" % (status.st_mode & PERMISSIONS),
        "modTime": day + " " + time + " +0000 UTC",
        "modifiedAt": day + "T" + time + "Z",
        "isDir": stat.S_ISDIR(status.st_mode),
        "owner": str(status.st_uid),
        "group": str(status.st_gid),
    }


def moment(nanoseconds: int) -> tuple[str, str]:
    """Day and time of day, to the nanosecond, without the zeros at the end."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        found = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):  # a time of its own making, beyond the calendar
        found, rest = datetime.datetime.fromtimestamp(0, datetime.timezone.utc), 0
    fraction = ("%09d" % rest).rstrip("0")
    return str(found.date()), str(found.time()) + ("." + fraction if fraction else "")


def letters(mode: int) -> str:
    """A mode as Go writes it: what it is, then the nine letters of chmod."""
    kind = "".join(letter for letter, holds in MODE_LETTERS if holds(mode))
    return (kind or "-") + stat.filemode(mode & PERMISSIONS)[1:]


def make_folders(path: str, mode: int = 0o755) -> None:
    """os.makedirs without its recursion: a path may have two thousand parts."""
    missing = []
    while not os.path.isdir(path or "/"):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, mode)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def make_folder(request: Values) -> None:
    """With those above it, all less the umask; one that is there stays as it is."""
    make_folders(request["path"], request["mode"])


def delete(request: Values) -> None:
    """Of a link what it leads to decides, but the link is what goes."""
    path = request["path"]
    if stat.S_ISDIR(os.stat(path).st_mode) and not request["recursive"]:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    remove(path)


def remove_tree(path: str) -> None:
    """Depth first, by changing into each folder: a tree may be deeper than path or call stack."""
    levels = [("", enter(path), emptied())]
    while levels:
        name, _, folders = levels[-1]
        if folders:
            name = folders.pop()
            levels.append((name, enter(name), emptied()))
            continue
        levels.pop()
        if levels:
            leave_to(levels[-1][1])
            os.rmdir(name)
    os.chdir("/")
    os.rmdir(path)


def enter(folder: str) -> tuple[int, int]:
    """Change into it, never through a symlink; which folder that is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchdir(fd)
        return identity(os.fstat(fd))
    finally:
        os.close(fd)


def leave_to(parent: tuple[int, int]) -> None:
    """Change to the folder above; raises OSError when it is not `parent`, since ours was moved."""
    os.chdir("..")
    if identity(os.stat(".")) != parent:
        raise OSError(errno.EBUSY, "the folder was moved while it was deleted")


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def emptied() -> list[str]:
    """Delete what is no folder in the current one; the names of its folders."""
    folders = []
    with os.scandir(".") as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name)
    return folders


def move(request: Values) -> None:
    """Rename; what is at the destination stays there."""
    source, destination = request["path"], request["destination"]
    os.stat(source)  # a link that leads nowhere is not found, as by every other call
    if os.path.lexists(destination):
        raise OSError(errno.EEXIST, "the destination exists")
    try:
        os.rename(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, destination)  # /tmp, /home and volumes are file systems of their own here
        remove(source)


def copy(source: str, destination: str) -> None:
    """Links stay links; half a copy is taken away again."""
    import shutil  # only here: it costs every sandbox milliseconds

    try:
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, destination, symlinks=True)
        else:
            shutil.copy2(source, destination, follow_symlinks=False)
    except BaseException:
        if os.path.lexists(destination):
            remove(destination)
        raise


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        os.unlink(path)


def set_permissions(request: Values) -> None:
    """Mode, owner and group, each only where it was given.

    Names are those of the sandbox's own passwd and group.
    """
    path = request["path"]
    if request["owner"] or request["group"]:
        os.chown(path, user_id(request["owner"]), group_id(request["group"]))
    if request["mode"] is not None:
        os.chmod(path, request["mode"])


def is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def user_id(name: str) -> int:
    import pwd

    try:
        return int(name) if is_number(name) else pwd.getpwnam(name).pw_uid if name else -1
    except KeyError:
        raise OSError(errno.EINVAL, "there is no user " + name) from None


def group_id(name: str) -> int:
    import grp

    try:
        return int(name) if is_number(name) else grp.getgrnam(name).gr_gid if name else -1
    except KeyError:
        raise OSError(errno.EINVAL, "there is no group " + name) from None


def replace(request: Values) -> list[str | None]:
    """For each of `paths` why it could not be rewritten, None where it could."""
    old, new = request["pattern"].encode(), request["value"].encode()
    failures: list[str | None] = []
    for path in request["paths"]:
        try:
            replace_in(path, old, new)
            failures.append(None)
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                raise
            failures.append(error.strerror or str(error))
    return failures


def replace_in(path: str, old: bytes, new: bytes) -> None:
    """Replace in place, so that mode, owner and links stay.

    Room is taken first, so that a full disk changes nothing.
    """
    fd = open_plain(path, os.O_RDWR)
    with open(fd, "r+b") as file:
        if os.fstat(fd).st_size > LARGEST_REPLACED:
            raise OSError(errno.EFBIG, "larger than 64 MiB; use sed")
        text = file.read(LARGEST_REPLACED + 1)
        count = text.count(old)
        if count == 0:
            os.utime(fd)  # Daytona writes it anew
            return
        size = len(text) + count * (len(new) - len(old))
        if size > LARGEST_REPLACED:
            raise OSError(errno.EFBIG, "it would become larger than 64 MiB; use sed")
        if size > len(text):
            take_room(fd, size)
        file.seek(0)
        file.write(text.replace(old, new))
        file.truncate()


def take_room(fd: int, size: int) -> None:
    """Make the file at least `size` bytes on disk; raises OSError when there is no room.

    The filter refuses fallocate (isolation.seccomp), so libc does it by writing. A libc that does
    not write by itself takes no room.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


OPERATIONS: dict[str, Callable[[Values], object]] = {
    "info": info,
    "list": list_folder,
    "mkdir": make_folder,
    "delete": delete,
    "move": move,
    "permissions": set_permissions,
    "replace": replace,
    "find": search.find,
    "search": search.search,
}
