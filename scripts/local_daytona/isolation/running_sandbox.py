"""A started sandbox: its first process and its agent, what it may use, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import EngineUnavailable, SandboxGone
from .agent_client import AgentClient, Limits
from .bubblewrap import Host, base_environment
from .first_process import START_TIMEOUT_S, FirstProcess
from .host_refusals import explain
from .limits import Resources
from .loop_guard import Received
from .rootfs import SandboxFolders
from .usage import Tree
from .volume_mounts import Mount, top_of


class RunningSandbox:
    """Create it with `RunningSandbox.start`; it is over when `closed` is set.

    `agent` does what is asked for inside.
    """

    agent: AgentClient

    def __init__(
        self, host: Host, folders: SandboxFolders, *, sandbox_id: str, resources: Resources
    ) -> None:
        self.host = host
        self.folders = folders
        self.sandbox_id = sandbox_id
        self.resources = resources
        self.closed = asyncio.Event()
        # Why the server ended it on its own account, as a sentence.
        self.ended_because: str | None = None
        self._first = FirstProcess(host, folders, sandbox_id=sandbox_id, resources=resources)

    @classmethod
    async def start(
        cls,
        host: Host,
        folders: SandboxFolders,
        *,
        sandbox_id: str,
        name: str,
        resources: Resources,
        mounts: Sequence[Mount] = (),
    ) -> RunningSandbox:
        """Start bubblewrap and wait for the agent.

        Raises EngineUnavailable with what bubblewrap said, OSError for a volume.
        """
        sandbox = cls(host, folders, sandbox_id=sandbox_id, resources=resources)
        await asyncio.to_thread(make_inert, host, folders, mounts)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sandbox.agent = sandbox._agent_behind(ours)
        # A pipe: the first process keeps its end, and a file would be the host's to fill.
        said, complaints = os.pipe()
        os.set_blocking(said, False)
        with theirs, os.fdopen(said, "rb", buffering=0) as said_by_it:
            spawning = asyncio.ensure_future(
                asyncio.to_thread(sandbox._first.spawn, theirs, complaints, name, mounts)
            )
            try:
                await asyncio.shield(spawning)
            except BaseException:
                await asyncio.wait({spawning})  # a cancelled start has a process too
                await sandbox.stop()
                raise
            finally:
                os.close(complaints)
            theirs.close()
            await sandbox._become_ready(said_by_it)
        return sandbox

    def _agent_behind(self, control: socket.socket) -> AgentClient:
        received = Received(self.kill_for)
        received.note([control.fileno()])  # closing it closes what still lies in it
        return AgentClient(
            control,
            received=received,
            limits=self._limits,
            end=self.end,
            why_ended=lambda: self.ended_because,
            on_close=self.closed.set,
        )

    def _limits(self) -> Limits:
        return self.resources.rlimits()

    async def _become_ready(self, complaints: io.FileIO) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(self.agent.ready), START_TIMEOUT_S)
        except (asyncio.TimeoutError, SandboxGone) as error:
            await self.stop()
            said = (complaints.read(4000) or b"").decode(errors="replace").strip()
            raise EngineUnavailable(
                said or f"the sandbox did not start: {error}",
                fix=explain(said, self.host.bwrap.path),
            ) from error
        except BaseException:
            await self.stop()
            raise

    @property
    def is_running(self) -> bool:
        return self.agent.is_open

    @property
    def pid(self) -> int:
        """Of its first process, as the host counts; -1 before there is one."""
        return self._first.pid

    @contextlib.contextmanager
    def network(self) -> Iterator[int]:
        """A descriptor of its network namespace; raises OSError."""
        network = self._first.network()
        try:
            yield network
        finally:
            os.close(network)

    def measure(self, part: Path) -> Tree:
        """What a part of its storage takes, with folders that it closed to this user.

        Raises OSError.
        """
        folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with self.network() as network:
                return Tree(*self.host.helper.measure(network, folder))
        finally:
            os.close(folder)

    def buffers(self) -> int:
        """Bytes that wait in its sockets; raises OSError."""
        with self.network() as network:
            return self.host.helper.buffers(network)

    def end(self, reason: str) -> None:
        """End it on the server's own account; callers that wait are told why.

        `closed` is set when this returns.
        """
        self.kill_for(reason)
        self.agent.close(reason)

    def kill_for(self, reason: str) -> None:
        """End its processes, from any thread; the loop notices that its control socket ends."""
        self.ended_because = reason
        self._first.kill()

    async def resize(self, resources: Resources) -> None:
        """Another size while it runs; processes that run keep their own limits. Raises OSError."""
        self.resources = resources
        if self.host.groups is not None:
            await asyncio.to_thread(self.host.groups.limit, self.sandbox_id, resources)

    async def stop(self) -> None:
        """End every process of the sandbox; returns when the kernel has."""
        self.agent.close()
        await asyncio.to_thread(self._first.end)

    def environment(self, *more: Mapping[str, str]) -> dict[str, str]:
        """The base environment with `more` laid over it, the last winning."""
        result = base_environment(self.host, sandbox_id=self.sandbox_id)
        for variables in more:
            result.update(variables)
        return result


def make_inert(host: Host, folders: SandboxFolders, mounts: Sequence[Mount]) -> None:
    """Nothing of what code inside wrote decides over its next start; raises OSError."""
    folders.set_preload_aside()
    if host.overlay:
        folders.free_mount_points(host.owner, {top_of(mount) for mount in mounts})
