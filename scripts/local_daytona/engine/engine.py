"""The engine as the control plane sees it: find out once what works here, then make, start and remove sandboxes."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from . import egress, limits
from .box import Box
from .command import Host
from .errors import EngineUnavailable, FileProblem, SandboxGone
from .host import Owner
from .installation import find_bwraps, find_python, install_agent
from .limits import Resources
from .rootfs import SandboxFolders, make_folders, make_template, remove_tree

TRIAL = Resources(cpu=1, memory=1, disk=1)


@dataclass(frozen=True)
class StateFolders:
    """Where the engine keeps things below the server's state folder."""

    state: Path

    @property
    def installed(self) -> Path:
        return self.state / "installed"

    @property
    def template(self) -> Path:
        return self.state / "template"

    @property
    def sandboxes(self) -> Path:
        return self.state / "sandboxes"

    @property
    def trash(self) -> Path:
        return self.state / "trash"

    def sandbox(self, sandbox_id: str) -> SandboxFolders:
        return SandboxFolders(self.sandboxes / sandbox_id)


class Engine:
    """Isolation that was tried on this machine and works."""

    def __init__(self, folders: StateFolders, host: Host) -> None:
        self.folders = folders
        self.host = host

    @classmethod
    async def open(cls, state: Path) -> Engine:
        """Prepare the state folder and try a whole sandbox; raises EngineUnavailable with the reason and the fix."""
        folders = StateFolders(state)
        owner = Owner.of_this_server()
        await asyncio.to_thread(prepare, folders, owner)
        host = await first_that_works(folders, owner)
        return cls(folders, host)

    def describe(self) -> dict[str, str]:
        """The `engine` part of `status`."""
        storage = "overlay" if self.host.overlay else "copy"
        return {
            "bwrap": str(self.host.bwrap),
            "limits": limits.MECHANISM,
            "egress": egress.MODE,
            "storage": storage,
            "python": self.host.python.path,
        }

    async def make(self, sandbox_id: str) -> None:
        """Create a sandbox's storage; raises OSError when the disk is full."""
        base = self.folders.sandbox(sandbox_id).base
        await asyncio.to_thread(make_folders, base, self.host.template, self.host.owner, overlay=self.host.overlay)

    async def start(self, sandbox_id: str, *, name: str, resources: Resources) -> Box:
        """Start a sandbox on its storage; raises EngineUnavailable."""
        folders = self.folders.sandbox(sandbox_id)
        return await Box.start(self.host, folders, sandbox_id=sandbox_id, name=name, resources=resources)

    def discard(self, sandbox_id: str) -> None:
        """Take a sandbox's storage and logs away at once; `empty_trash` frees the disk."""
        folders = self.folders.sandbox(sandbox_id)
        for path in (folders.base, folders.logs):
            if os.path.lexists(path):
                path.rename(self.folders.trash / f"{path.parent.name}-{uuid.uuid4().hex}")

    def empty_trash(self) -> None:
        """Delete what was discarded; to be run in a thread."""
        for path in self.folders.trash.iterdir():
            try:
                remove_tree(path)
            except FileNotFoundError:
                continue

    def stored(self) -> set[str]:
        """Ids that have storage on disk."""
        return {path.name for path in self.folders.sandboxes.iterdir()}


def prepare(folders: StateFolders, owner: Owner) -> None:
    folders.state.mkdir(parents=True, exist_ok=True, mode=0o711 if owner.dropped else 0o700)
    os.chmod(folders.state, 0o711 if owner.dropped else 0o700)
    if not owner.may_reach_folder(folders.state):
        raise EngineUnavailable(
            f"{folders.state} cannot be reached by uid {owner.uid}, which sandboxes of a root server run as",
            fix="give --state-dir /var/lib/daytona-sandbox, or leave it out",
        )
    for path in (folders.sandboxes, folders.installed, folders.state / "python"):
        path.mkdir(exist_ok=True, mode=0o711)
    for path in (folders.trash, folders.state / "logs"):
        path.mkdir(exist_ok=True, mode=0o700)
    make_template(folders.template, owner)


async def first_that_works(folders: StateFolders, owner: Owner) -> Host:
    """Try every bubblewrap with copy-on-write storage, then with copied storage; the first complaint is the reason."""
    python = find_python(owner)
    agent = install_agent(folders.installed, owner)
    complaints: list[EngineUnavailable] = []
    for overlay in (True, False):
        for bwrap in find_bwraps(folders.installed, owner):
            host = Host(owner, bwrap, python, agent, folders.template, folders.state / "python", overlay)
            try:
                await trial(folders, host)
            except EngineUnavailable as complaint:
                complaints.append(complaint)
            else:
                return host
    raise complaints[0]


async def trial(folders: StateFolders, host: Host) -> None:
    """Start a sandbox and run a program in it; raises EngineUnavailable."""
    base = folders.sandboxes / f"trial-{os.getpid()}"
    remove_tree(base)
    try:
        storage = make_folders(base, host.template, host.owner, overlay=host.overlay)
        box = await Box.start(host, storage, sandbox_id="trial", name="trial", resources=TRIAL)
        try:
            await run_nothing(box)
        finally:
            await box.stop()
    finally:
        remove_tree(base)


async def run_nothing(box: Box) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        running = await box.exec(["true"], stdio=(null, null, null), environment=box.environment(), cwd="/")
        code = await asyncio.wait_for(running.exited, 10)
    except (FileProblem, SandboxGone, asyncio.TimeoutError) as error:
        raise EngineUnavailable(f"a program did not run in a trial sandbox: {error}", fix=TRIAL_FIX) from error
    finally:
        os.close(null)
    if code != 0:
        raise EngineUnavailable(f"`true` ended with {code} in a trial sandbox", fix=TRIAL_FIX)


TRIAL_FIX = "use Daytona's cloud (set DAYTONA_API_KEY), or report the line above"
