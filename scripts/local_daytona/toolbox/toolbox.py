"""The toolbox of one started sandbox: what its parts share, and their common end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import re
from collections.abc import AsyncIterator, Mapping

from ..errors import ApiError, FileProblem, SandboxGone
from ..http_json import DAEMON
from ..isolation.host_etc import HOME
from ..isolation.running_sandbox import RunningSandbox
from .interpreter.service import Contexts
from .pty.service import Terminals
from .sessions.service import Sessions

ENV_NAME, ANY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[^=\x00]+")


class Toolbox:
    """A sandbox with what its processes start with, and the long-lived programs in it.

    `env` and `work_dir` are what they start with; sessions, terminals and interpreter contexts live
    until the sandbox ends.
    """

    def __init__(
        self, sandbox: RunningSandbox, *, env: Mapping[str, str], work_dir: str = HOME
    ) -> None:
        self.sandbox = sandbox
        self.agent = sandbox.agent
        self.work_dir = work_dir
        self.env = dict(env)
        self.sessions = Sessions(self)
        self.terminals = Terminals(self)
        self.contexts = Contexts(self)
        self.closing = asyncio.Event()

    def environment(self, more: Mapping[str, str], *, any_name: bool = False) -> dict[str, str]:
        """Base, the sandbox's own, then the request's variables, the last winning.

        Raises the 400 for a name or value that no process can have, and unless `any_name` for names
        that no shell can.
        """
        names = ANY_NAME if any_name else ENV_NAME
        for name, value in more.items():
            if not names.fullmatch(name) or "\0" in value:
                raise ApiError(400, f"invalid environment variable: {name!r}", source=DAEMON)
        return self.sandbox.environment(self.env, more)

    def absolute(self, path: str) -> str:
        """A path as the sandbox's programs see it: relative ones lie in the working directory.

        `~` is only a name. Raises the 400.
        """
        return posixpath.normpath(self.joined(path))

    def joined(self, path: str) -> str:
        """As absolute(), with its `..` and its slash at the end left to the sandbox's kernel."""
        if not path or "\0" in path:
            raise ApiError(400, "a path is required, without NUL", source=DAEMON)
        return posixpath.join(self.work_dir, path)

    async def write_file(self, path: str, data: bytes) -> None:
        """A small file of the server's own, such as a session's script; raises FileProblem."""
        fd = await self.agent.open_file(path, "w")
        try:
            await asyncio.to_thread(write_all, fd, data)
        except OSError as error:
            raise FileProblem(error.errno or 0, error.strerror or "") from None
        finally:
            os.close(fd)

    async def close(self) -> None:
        """End sessions, terminals, interpreters and every stream of this sandbox.

        The processes end with the sandbox.
        """
        self.closing.set()
        await asyncio.gather(self.sessions.close(), self.terminals.close(), self.contexts.close())


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write the whole of `data` to a regular file; raises OSError, of a full disk for example."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def problem(error: FileProblem, path: str) -> ApiError:
    """The daemon's status and code for an errno from inside (PROTOCOL.md, "Errors")."""
    status, code = ERRORS.get(error.errno or 0, (500, "FILE_READ_FAILED"))
    return ApiError(status, f"{path}: {error.strerror}", code=code, source=DAEMON)


ERRORS = {
    errno.ENOENT: (404, "FILE_NOT_FOUND"),
    errno.EACCES: (403, "FILE_ACCESS_DENIED"),
    errno.EPERM: (403, "FILE_ACCESS_DENIED"),
    errno.EROFS: (403, "FILE_ACCESS_DENIED"),
    errno.ENOTDIR: (400, "BAD_REQUEST"),
    errno.EISDIR: (400, "BAD_REQUEST"),
    errno.EINVAL: (400, "BAD_REQUEST"),
    errno.ENAMETOOLONG: (400, "BAD_REQUEST"),
    errno.ELOOP: (400, "BAD_REQUEST"),
    errno.EXDEV: (400, "BAD_REQUEST"),
    errno.ENXIO: (400, "BAD_REQUEST"),
    errno.E2BIG: (400, "BAD_REQUEST"),
    errno.ETIMEDOUT: (408, "REQUEST_TIMEOUT"),
    errno.EEXIST: (409, "CONFLICT"),
    errno.ENOTEMPTY: (409, "CONFLICT"),
    errno.EBUSY: (409, "CONFLICT"),
    errno.ETXTBSY: (409, "CONFLICT"),
    errno.ENOMEM: (500, "INTERNAL_SERVER_ERROR"),
    errno.ENOSPC: (500, "INTERNAL_SERVER_ERROR"),
    errno.EDQUOT: (500, "INTERNAL_SERVER_ERROR"),
    errno.EFBIG: (500, "INTERNAL_SERVER_ERROR"),
}


@contextlib.asynccontextmanager
async def inside(path: str) -> AsyncIterator[None]:
    """Engine failures of the block as the daemon's answers about `path`."""
    try:
        yield
    except ApiError as error:
        error.source = DAEMON  # also of what the shared reading of requests refused
        raise
    except FileProblem as error:
        raise problem(error, path) from None
    except SandboxGone as error:
        raise ApiError(410, f"{error}", source=DAEMON) from None
    except ValueError as error:
        raise ApiError(400, str(error), source=DAEMON) from None
