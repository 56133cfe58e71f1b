"""The engine as the control plane sees it: try what works here once, then make sandboxes."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .egress.policy import Rules
from .egress.service import Egress
from .egress.transparent import TransparentEgress
from .egress.upstream import Upstream
from .errors import EngineUnavailable, FileProblem, SandboxGone
from .isolation.bubblewrap import Host
from .isolation.cgroups import Groups, find_groups
from .isolation.copying import Budget
from .isolation.disk_reserve import Reserve
from .isolation.helper import Helper
from .isolation.host import Owner
from .isolation.installation import (
    find_bwraps,
    find_python,
    install_agent,
    install_programs,
    replaced_programs,
)
from .isolation.limits import Resources
from .isolation.orphans import OrphanReaper
from .isolation.rootfs import (
    SandboxFolders,
    add_work_folders,
    copy_kept,
    kept_parts,
    make_folders,
    make_template,
    remove_tree,
)
from .isolation.running_sandbox import RunningSandbox
from .isolation.spawning import spawn
from .isolation.volume_mounts import BIND_DESCRIPTOR, Mount
from .isolation.watchdog import Watchdog, measured, measured_inside

log = logging.getLogger(__name__)
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
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def trash(self) -> Path:
        return self.state / "trash"

    @property
    def running(self) -> Path:
        return self.state / "running"

    @property
    def python(self) -> Path:
        """Where an interpreter that the sandboxes' owner cannot reach is bound."""
        return self.state / "python"

    @property
    def for_the_owner(self) -> tuple[Path, ...]:
        """What sandboxes wrote."""
        return self.sandboxes, self.snapshots, self.volumes

    @property
    def for_everybody(self) -> tuple[Path, ...]:
        """Programs that the owner of the sandboxes runs and may not change."""
        return self.installed, self.python

    @property
    def for_the_server(self) -> tuple[Path, ...]:
        return self.trash, self.running, self.state / "logs"

    @property
    def reserve(self) -> Reserve:
        return Reserve(self.state / "reserve")

    def sandbox(self, sandbox_id: str) -> SandboxFolders:
        return SandboxFolders(self.sandboxes / sandbox_id)


class Engine:
    """Isolation that was tried on this machine and works."""

    def __init__(self, folders: StateFolders, host: Host, egress: Egress) -> None:
        self.folders = folders
        self.host = host
        self.egress = egress
        # One thread of its own: two would pull the same tree from under each other, and a million
        # files must not keep others waiting.
        self._emptier = ThreadPoolExecutor(1, "trash")
        limits_memory = host.groups is not None and host.groups.has("memory")
        self._watchdog = Watchdog(folders.state, memory=not limits_memory)

    @classmethod
    async def open(cls, state: Path, upstream: Upstream | None = None) -> Engine:
        """Prepare the state folder and try a whole sandbox.

        Raises EngineUnavailable with the reason and the fix.
        """
        folders = StateFolders(state)
        owner = Owner.of_this_server()
        groups = await asyncio.to_thread(prepare, folders, owner)
        helper = Helper(owner)
        transparent = TransparentEgress(helper)
        host = await first_that_works(folders, owner, groups, helper, transparent)
        await asyncio.to_thread(folders.reserve.fill)
        return cls(folders, host, Egress(upstream or Upstream(), transparent))

    def describe(self) -> dict[str, Any]:
        """The `engine` part of `status`."""
        storage = "overlay" if self.host.overlay else "copy"
        return {
            "bwrap": str(self.host.bwrap),
            "limits": describe_limits(self.host.groups),
            **self.egress.describe(),
            "storage": storage,
            "python": self.host.python.path,
        }

    async def make(self, sandbox_id: str) -> None:
        """Create a sandbox's storage; raises OSError when the disk is full."""
        base = self.folders.sandbox(sandbox_id).base
        await asyncio.to_thread(
            make_folders, base, self.host.template, self.host.owner, overlay=self.host.overlay
        )

    async def make_from(self, sandbox_id: str, snapshot_id: str, budget: Budget) -> None:
        """Create a sandbox's storage as a copy of a snapshot's; raises OSError."""
        snapshot, base = self.folders.snapshots / snapshot_id, self.folders.sandbox(sandbox_id).base
        await to_the_end(budget, lambda: self._make_from(snapshot, base, budget))

    def _make_from(self, snapshot: Path, base: Path, budget: Budget) -> None:
        copy_kept(snapshot, base, self.host.owner, budget, overlay=self.host.overlay)
        try:
            if self.host.overlay:
                add_work_folders(base, self.host.owner)
        except OSError:
            remove_tree(base)
            raise

    async def save(self, sandbox_id: str, snapshot_id: str, budget: Budget) -> None:
        """Copy what a sandbox wrote to a new snapshot, also while it runs.

        Raises OSError, CopyStopped.
        """
        source, target = self.folders.sandbox(sandbox_id).base, self.folders.snapshots / snapshot_id
        owner, overlay = self.host.owner, self.host.overlay
        await to_the_end(budget, lambda: copy_kept(source, target, owner, budget, overlay=overlay))

    def become_snapshot(self, sandbox_id: str, snapshot_id: str) -> None:
        """Turn a stopped sandbox's storage into a snapshot, without a copy."""
        base = self.folders.sandbox(sandbox_id).base
        for path in base.iterdir():
            if path.name not in kept_parts(overlay=self.host.overlay):
                self._throw_away(path)
        base.rename(self.folders.snapshots / snapshot_id)
        self.discard(sandbox_id)

    def can_start_from(self, snapshot_id: str) -> bool:
        """Whether a snapshot's storage fits how this server stores.

        It need not: another bubblewrap may have changed that.
        """
        return all(
            (self.folders.snapshots / snapshot_id / part).is_dir()
            for part in kept_parts(overlay=self.host.overlay)
        )

    @property
    def can_mount_parts(self) -> bool:
        """Whether this bubblewrap can mount a volume's subpath safely."""
        return self.host.bwrap.version >= BIND_DESCRIPTOR

    def make_volume(self, volume_id: str) -> None:
        """Create a volume's storage; a repetition changes nothing. Raises OSError."""
        self.host.owner.make_folder(self.folders.volumes / volume_id, 0o755)

    def volume(self, volume_id: str) -> Path:
        return self.folders.volumes / volume_id

    def discard_volume(self, volume_id: str) -> None:
        self._throw_away(self.folders.volumes / volume_id)

    def discard_snapshot(self, snapshot_id: str) -> None:
        self._throw_away(self.folders.snapshots / snapshot_id)

    async def start(
        self,
        sandbox_id: str,
        *,
        name: str,
        resources: Resources,
        mounts: Sequence[Mount] = (),
        rules: Rules | None = None,
    ) -> RunningSandbox:
        """Start a sandbox on its storage.

        Raises EngineUnavailable, or OSError for a volume that cannot be mounted.
        """
        folders = self.folders.sandbox(sandbox_id)
        volumes = sorted({mount.volume for mount in mounts})
        stored, in_volumes = await asyncio.to_thread(measured, folders, volumes)
        sandbox = await RunningSandbox.start(
            self.host, folders, sandbox_id=sandbox_id, name=name, resources=resources, mounts=mounts
        )
        try:
            if stored is None:
                stored = await asyncio.to_thread(measured_inside, sandbox)
            await self.egress.open(sandbox, rules or Rules())
        except BaseException:
            await sandbox.stop()
            raise
        self._watchdog.watch(sandbox, stored=stored, volumes=volumes, in_volumes=in_volumes)
        return sandbox

    def discard(self, sandbox_id: str) -> None:
        """Take a sandbox's storage and logs away at once; `empty_trash` frees the disk."""
        folders = self.folders.sandbox(sandbox_id)
        for path in (folders.base, folders.logs):
            self._throw_away(path)

    def _throw_away(self, path: Path) -> None:
        if os.path.lexists(path):
            path.rename(self.folders.trash / f"{path.parent.name}-{uuid.uuid4().hex}")

    async def empty_trash(self) -> None:
        """Delete what was discarded until now."""
        await asyncio.get_running_loop().run_in_executor(self._emptier, self._empty_trash)

    def _empty_trash(self) -> None:
        delete_discarded(self.folders.trash)
        self.folders.reserve.fill()

    def stored(self) -> set[str]:
        """Ids that have storage on disk."""
        return names_in(self.folders.sandboxes)

    def stored_snapshots(self) -> set[str]:
        return names_in(self.folders.snapshots)

    def stored_volumes(self) -> set[str]:
        return names_in(self.folders.volumes)


async def to_the_end(budget: Budget, copy: Callable[[], None]) -> None:
    """Copy in a thread; when cancelled, stop it and wait, so that nothing is written afterwards."""
    thread = asyncio.ensure_future(asyncio.to_thread(copy))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        budget.stop.set()
        await asyncio.wait({thread})
        if not thread.cancelled():
            thread.exception()  # it is stopped as wanted
        raise


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def describe_limits(groups: Groups | None) -> str:
    """What holds sandboxes to their size here, for people."""
    everywhere = "rlimits and watchdog"
    return everywhere if groups is None else f"{groups.describe()}, {everywhere}"


def make_room(folders: StateFolders) -> None:
    """On a full disk even a start needs a few blocks: the reserve, and what was deleted before."""
    if folders.reserve.is_needed():
        folders.reserve.free()
        if folders.trash.is_dir():
            delete_discarded(folders.trash)


def delete_discarded(trash: Path) -> None:
    for path in trash.iterdir():
        try:
            remove_tree(path)
        except OSError as error:  # the next one tries again
            log.warning("%s cannot be deleted yet: %s", path, error)


def prepare(folders: StateFolders, owner: Owner) -> Groups | None:
    """Make the folders, and end what a server that was killed may have left.

    Returns the control groups that may be used, if any.
    """
    mode = 0o711 if owner.dropped else 0o700
    folders.state.mkdir(parents=True, exist_ok=True, mode=mode)
    os.chmod(folders.state, mode)
    if not owner.may_reach_folder(folders.state):
        raise EngineUnavailable(
            f"{folders.state} cannot be reached by uid {owner.uid},"
            " which sandboxes of a root server run as",
            fix="give --state-dir /var/lib/daytona-sandbox, or leave it out",
        )
    make_room(folders)
    for path in folders.for_the_owner:
        owner.make_folder(path)  # nobody else passes: not to a volume whose name they know either
    for path in folders.for_everybody:
        path.mkdir(exist_ok=True)
        path.chmod(0o711)
    for path in folders.for_the_server:
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
    orphans = OrphanReaper(folders.running)
    orphans.end_all()
    orphans.reap_unstarted(folders.sandboxes)
    groups = find_groups(folders.state)
    if groups is not None:
        groups.clean()
    make_template(folders.template, owner)
    return groups


async def first_that_works(
    folders: StateFolders,
    owner: Owner,
    groups: Groups | None,
    helper: Helper,
    transparent: TransparentEgress,
) -> Host:
    """Try every bubblewrap with all that is wanted, then with less.

    Raises the first complaint when none works.
    """
    python = find_python(owner)
    agent = install_agent(folders.installed, python)
    programs = install_programs(folders.installed, python)
    complaints: list[EngineUnavailable] = []
    for overlay, inotify_limits in ((True, True), (True, False), (False, True), (False, False)):
        for bwrap in find_bwraps(folders.installed, owner):
            host = Host(
                owner,
                bwrap,
                python,
                agent,
                programs,
                replaced_programs(),
                template=folders.template,
                python_place=folders.python,
                overlay=overlay,
                groups=groups,
                inotify_limits=inotify_limits,
                helper=helper,
            )
            try:
                await trial(folders, host, transparent)
            except EngineUnavailable as complaint:
                complaints.append(complaint)
            else:
                return host
    raise complaints[0]


async def trial(folders: StateFolders, host: Host, transparent: TransparentEgress) -> None:
    """Start a sandbox and run a program in it; raises EngineUnavailable.

    Also finds out whether its connections can be caught.
    """
    base = folders.sandboxes / f"trial-{os.getpid()}"
    remove_tree(base)
    try:
        storage = make_folders(base, host.template, host.owner, overlay=host.overlay)
        sandbox = await RunningSandbox.start(
            host, storage, sandbox_id="trial", name="trial", resources=TRIAL
        )
        try:
            await run_nothing(sandbox)
            if listeners := await transparent.listen(sandbox):
                listeners.close()
        finally:
            await sandbox.stop()
    finally:
        remove_tree(base)


async def run_nothing(sandbox: RunningSandbox) -> None:
    """Run `true`; raises EngineUnavailable when it does not end well."""
    try:
        program = await spawn(sandbox.agent, ["true"], environment=sandbox.environment(), cwd="/")
        code = await asyncio.wait_for(program.running.exited, 10)
    except (FileProblem, SandboxGone, asyncio.TimeoutError) as error:
        reason = f"a program did not run in a trial sandbox: {error}"
        raise EngineUnavailable(reason, fix=TRIAL_FIX) from error
    if code != 0:
        raise EngineUnavailable(f"`true` ended with {code} in a trial sandbox", fix=TRIAL_FIX)


TRIAL_FIX = "use Daytona's cloud (set DAYTONA_API_KEY), or report the line above"
