"""Running git inside a sandbox: its settings, its time, and how a credential reaches it.

A credential goes through a FIFO in a private folder on the sandbox's tmpfs. Only git's credential
lookup for the one origin that the call is about reads it, with a shell's built-in commands. So it
is in no file, no argument, no environment and no configuration, and a server that redirects
elsewhere is told nothing. What runs as the sandbox's user at the same moment can still take it: the
sandbox has one user. That is why the repository's own hooks and filters do not run while it waits
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import re
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from ...errors import ApiError, FileProblem, SandboxGone
from ...http_json import DAEMON
from ...isolation.agent_client import RunningProgram
from ...isolation.spawning import APART, Spawned, spawn
from ...isolation.streams import feed, read_all
from ..toolbox import Toolbox, inside
from .failures import failure

LOCAL_S, REMOTE_S = 300.0, 1800.0
TERMINATE_S = 3.0  # for git to take its half-made files away
SETTLE_S = 5.0  # what git left running may hold its output open
OUTPUT_LIMIT = 8 * 1024 * 1024
COMPLAINT_LIMIT = 64 * 1024
LONGEST_CREDENTIAL = 4000  # a pipe takes this in one piece
COPIES = 4  # a fetch may ask again for a second connection
RUN_FOLDER = "/run/git"
PROTOCOLS = "file:git:http:https:ssh"  # never ext, which runs what the address says
NO_GIT = "there is no git in this sandbox; sudo apt install git on this machine, whose /usr it has"
ALWAYS = tuple(
    """
        core.hooksPath=/dev/null core.fsmonitor=false core.askPass=
        protocol.ext.allow=never safe.directory=* gc.auto=0 maintenance.auto=false
        submodule.recurse=false fetch.recurseSubmodules=false commit.gpgSign=false
        advice.detachedHead=false http.lowSpeedLimit=1 http.lowSpeedTime=120
        i18n.logOutputEncoding=UTF-8 core.autocrlf=false
    """.split()
)


@dataclass(frozen=True)
class Credential:
    """For one origin, such as https://example.com:8443.

    Never in a repr, because tracebacks are logged.
    """

    origin: str
    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def lines(self) -> bytes:
        return f"username={self.username}\npassword={self.password}\n".encode()


@dataclass(frozen=True)
class Done:
    """How a git call ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace")

    @property
    def said(self) -> str:
        return self.text[-COMPLAINT_LIMIT:] + "\n" + self.err.decode(errors="replace")


async def git(
    toolbox: Toolbox,
    *words: str,
    cwd: str,
    credential: Credential | None = None,
    stdin: bytes = b"",
    timeout_s: float = LOCAL_S,
) -> Done:
    """Run git to its end.

    Raises the ApiError for a folder or a git that is not there, and for a call that takes too long.
    """
    async with asked(toolbox, credential) as settings:
        options = [word for setting in (*ALWAYS, *settings) for word in ("-c", setting)]
        argv = ["git", *options, "--no-pager", *words]
        if any("\0" in word for word in argv):
            raise ApiError(400, "no value may hold a NUL", source=DAEMON)
        return await run(toolbox, argv, cwd=cwd, stdin=stdin, timeout_s=timeout_s)


async def checked(
    toolbox: Toolbox,
    *words: str,
    cwd: str,
    credential: Credential | None = None,
    stdin: bytes = b"",
    timeout_s: float = LOCAL_S,
) -> Done:
    """`git`, when it succeeds; raises the ApiError that its words mean."""
    done = await git(
        toolbox, *words, cwd=cwd, credential=credential, stdin=stdin, timeout_s=timeout_s
    )
    if done.code:
        secrets = [credential.password, credential.username] if credential else []
        raise failure(done.code, done.said, secrets)
    if len(done.out) >= OUTPUT_LIMIT:
        message = f"git says more than {OUTPUT_LIMIT >> 20} MiB; use sandbox.process"
        raise ApiError(400, message, source=DAEMON)
    return done


async def run(
    toolbox: Toolbox, argv: Sequence[str], *, cwd: str, stdin: bytes, timeout_s: float
) -> Done:
    program = await start(toolbox, argv, cwd=cwd)
    feeder = asyncio.create_task(feed(program.stdin, stdin))
    said, complained = program.outputs
    out = asyncio.create_task(read_all(said, limit=OUTPUT_LIMIT))
    err = asyncio.create_task(read_all(complained, limit=COMPLAINT_LIMIT))
    try:
        code = await ended(toolbox, program.running, timeout_s)
        if (await asyncio.wait({out, err}, timeout=SETTLE_S))[1]:
            await toolbox.agent.kill(program.running, signal.SIGKILL)
        return Done(code, await out, await err)
    finally:
        for task in (feeder, out, err):
            task.cancel()


async def start(toolbox: Toolbox, argv: Sequence[str], *, cwd: str) -> Spawned:
    """Raises the 501 where there is no git, the 404 where there is no such folder."""
    async with inside(cwd):
        variables = environment(toolbox, cwd)
        try:
            return await spawn(
                toolbox.agent,
                argv,
                environment=variables,
                cwd=cwd,
                stdin=True,
                outputs=APART,
            )
        except FileProblem as error:
            with contextlib.suppress(FileProblem):
                if (await toolbox.agent.files("info", path=cwd))["isDir"]:
                    raise ApiError(501, NO_GIT, source=DAEMON) from None
            message = f"{cwd}: {error.strerror}"
            raise ApiError(404, message, code="GIT_REPO_NOT_FOUND", source=DAEMON) from None


async def ended(toolbox: Toolbox, running: RunningProgram, timeout_s: float) -> int:
    """git's exit code; raises the 408 when it took too long, the 410 when the sandbox ended."""
    try:
        code = await asyncio.wait_for(asyncio.shield(running.exited), timeout_s)
    except asyncio.TimeoutError:
        await toolbox.agent.kill(running, signal.SIGTERM)
        await asyncio.wait({running.exited}, timeout=TERMINATE_S)
        await toolbox.agent.kill(running, signal.SIGKILL)
        message = f"git took longer than {timeout_s:.0f} seconds"
        raise ApiError(408, message, code="REQUEST_TIMEOUT", source=DAEMON) from None
    if not toolbox.sandbox.is_running:
        raise SandboxGone(toolbox.sandbox.ended_because or "the sandbox was stopped while git ran")
    return code


def environment(toolbox: Toolbox, cwd: str) -> dict[str, str]:
    """The sandbox's own, without what would change git's ways.

    The ceiling says that a folder below a repository is none itself.
    """
    own = {
        name: value
        for name, value in toolbox.environment({}).items()
        if not name.startswith(("GIT_", "LC_", "SSH_ASKPASS"))
    }
    return {
        **own,
        "LANGUAGE": "",
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "GIT_CEILING_DIRECTORIES": posixpath.dirname(cwd),
        "GIT_EDITOR": "true",
    }


@contextlib.asynccontextmanager
async def asked(toolbox: Toolbox, credential: Credential | None) -> AsyncIterator[Sequence[str]]:
    """Settings with which git finds the credential, for as long as the block lasts.

    Without a credential the sandbox's own settings hold.
    """
    if credential is None:
        yield ()
        return
    folder = f"{RUN_FOLDER}/{uuid.uuid4().hex}"
    async with inside(folder):
        fd = (await toolbox.agent.fifos(folder, readers=[], writers=["credential"]))[0]
        try:
            pour(fd, credential.lines)
            yield settings_for(credential.origin, f"{folder}/credential")
        finally:
            os.close(fd)
            with contextlib.suppress(FileProblem, SandboxGone):
                await toolbox.agent.files("delete", path=folder, recursive=True)


def pour(fd: int, lines: bytes) -> None:
    """As many copies as git may ask for; the pipe may be too small for all of them."""
    try:
        os.write(fd, lines)
        with contextlib.suppress(BlockingIOError):
            for _ in range(COPIES - 1):
                os.write(fd, lines)
    except OSError:
        raise SandboxGone("the sandbox answered with something else than a pipe") from None


def settings_for(origin: str, fifo: str) -> Sequence[str]:
    """The empty helpers forget all that a configuration file names.

    Ours answers for one origin, and stores nothing.
    """
    read = f"{{ IFS= read -r u && IFS= read -r p; }} < {fifo}"
    tell = 'printf \'%s\\n%s\\n\' "$u" "$p"'
    script = f'!f() {{ test "$1" = get || exit 0; {read} && {tell}; }}; f'
    return (
        "credential.helper=",
        f"credential.{origin}.helper=",
        f"credential.{origin}.helper={script}",
    )


def credential_for(url: str, username: str, password: str) -> Credential | None:
    """None for what is neither http nor https, and for a user name alone.

    Raises the 400 for what no credential can be.
    """
    both = username + password
    if re.search(r"[\x00\r\n]", both) or len(both.encode()) > LONGEST_CREDENTIAL:
        bound = f"of {LONGEST_CREDENTIAL} bytes at most"
        raise ApiError(400, f"username and password are one line each, {bound}", source=DAEMON)
    origin = origin_of(url)
    return Credential(origin, username, password) if password and origin else None


def origin_of(url: str) -> str:
    """https://host:port of an address; an empty string for one of another kind."""
    parts = split_url(url)
    if parts is None:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def without_password(url: str) -> tuple[str, str, str]:
    """(address without user and password, user, password) when it holds a password.

    Else (the address, "", "").
    """
    parts = split_url(url)
    if parts is None or not parts.password:
        return url, "", ""
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, unquote(parts.username or ""), unquote(parts.password)


def split_url(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None
