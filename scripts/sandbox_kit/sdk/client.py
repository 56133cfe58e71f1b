"""An account's sandboxes: create, find, list. Every call either returns or raises a Failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..checked import checked_id, checked_link
from ..errors import Failure
from ..settings import Settings
from .build_log import BuildLog
from .loading import paused_collector, prepare_environment, require_sdk, translating_errors
from .sandbox import DELETE_TIMEOUT_S, REQUEST_TIMEOUT_S, Sandbox, require_sandbox
from .types import (
    LANGUAGE_LABEL,
    CreateSpec,
    SandboxInfo,
    SnapshotInfo,
    VolumeInfo,
    info_of,
    network_settings,
    snapshot_of,
    volume_of,
)

if TYPE_CHECKING:
    from .generated import CreateSandbox
    from .transport import Transport

STARTED = "started"
WAITING_FOR_BUILD = "pending_build"
BUILD_PAUSE_S = 0.2
PAGE_SIZE, MOST_PAGES = 100, 1000  # of a list
LAST_LOOK_S = 5.0
LOG_GRACE_S = 3.0  # a build may be over before its log was read


class Client:
    """One endpoint with one key; open it with `async with Client.open(settings) as client`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Client]:
        """Import the generated clients and connect to nothing yet; raises Failure."""
        require_sdk()
        prepare_environment(settings)
        with warnings.catch_warnings(), translating_errors("preparing the SDK"):
            warnings.simplefilter("ignore")
            with paused_collector():
                from .transport import Transport
            transport = Transport(settings)
        try:
            yield cls(transport)
        finally:
            await transport.close()

    async def create(
        self, spec: CreateSpec, *, timeout_s: float, on_build_log: Callable[[str], None]
    ) -> Sandbox:
        """Create, and wait until it is started.

        Raises Failure, whose sandbox_id tells what exists already.
        """
        made: list[Sandbox] = []
        try:
            await asyncio.wait_for(self._create(spec, made, timeout_s, on_build_log), timeout_s)
        except asyncio.TimeoutError:
            if made and await is_started(made[0]):  # meanwhile: this machine may have slept
                return made[0]
            failure = Failure(
                "create_timeout", f"the sandbox was not ready within {timeout_s:.0f} s"
            )
        except Failure as error:
            failure = error
        else:
            return made[0]
        raise failure.replaced(sandbox_id=made[0].info.id if made else None)

    async def _create(
        self,
        spec: CreateSpec,
        made: list[Sandbox],
        timeout_s: float,
        on_build_log: Callable[[str], None],
    ) -> None:
        with translating_errors("creating the sandbox"):
            body = create_request(spec, self._transport.target)
            found = require_sandbox(
                await self._transport.sandboxes.create_sandbox(body, _request_timeout=timeout_s)
            )
        sandbox = Sandbox(self._transport, found)
        if not spec.identity.made(sandbox.info.name, sandbox.info.labels):
            raise Failure(
                "server_error",
                f"the server answered the create with another sandbox, {sandbox.info.name}"
                f" ({sandbox.info.id}), which is neither used nor deleted",
            )
        made.append(sandbox)
        if spec.image is None or made[0].info.state == STARTED:
            await made[0].wait_for_start()
            return
        telling = asyncio.ensure_future(self._tell_build_log(made[0], on_build_log))
        try:
            await made[0].wait_for_start()
        finally:  # a failed build most of all
            await asyncio.wait([telling], timeout=LOG_GRACE_S)
            telling.cancel()

    async def _tell_build_log(self, sandbox: Sandbox, tell: Callable[[str], None]) -> None:
        """Follow the log of an image's build; one that cannot be read must not fail the create."""
        with contextlib.suppress(Exception):
            # The wait for the start, beside this, brings the next state.
            while sandbox.info.state == WAITING_FOR_BUILD:  # noqa: ASYNC110
                await asyncio.sleep(BUILD_PAUSE_S)
            found = await self._transport.sandboxes.get_build_logs_url(
                sandbox.info.id, _request_timeout=REQUEST_TIMEOUT_S
            )
            address = checked_link(found.url)
            async with self._transport.session.get(
                f"{address}?follow=true", headers=self._transport.headers_at(address), timeout=None
            ) as answer:
                log = BuildLog(tell)
                async for chunk in answer.content.iter_any():
                    if not log.feed(chunk):
                        return
                log.finish()

    async def get(self, id_or_name: str) -> Sandbox:
        """The sandbox of that id or name; raises Failure, also when the answer is another one."""
        with translating_errors(f"looking for sandbox {id_or_name}"):
            found = require_sandbox(
                await self._transport.sandboxes.get_sandbox(
                    id_or_name, _request_timeout=REQUEST_TIMEOUT_S
                )
            )
            require_the_one("sandbox", id_or_name, found)
            return Sandbox(self._transport, found)

    async def delete(self, sandbox_id: str) -> None:
        """Ask for the deletion; returns when the server accepted it."""
        with translating_errors("deleting the sandbox"):
            await self._transport.sandboxes.delete_sandbox(
                checked_id(sandbox_id), _request_timeout=DELETE_TIMEOUT_S
            )

    async def list(self, labels: Mapping[str, str]) -> AsyncIterator[SandboxInfo]:
        """Sandboxes that carry all of `labels`, by the server's filter."""
        wanted, cursor = json.dumps(dict(labels)) if labels else None, None
        seen = set[str]()
        while True:
            with translating_errors("listing sandboxes"):
                found = await self._transport.sandboxes.list_sandboxes(
                    labels=wanted,
                    cursor=cursor,
                    limit=PAGE_SIZE,
                    _request_timeout=REQUEST_TIMEOUT_S,
                )
                infos, cursor = [info_of(sandbox) for sandbox in found.items], found.next_cursor
            for info in infos:
                yield info
            if not cursor:
                return
            if cursor in seen or len(seen) >= MOST_PAGES:
                raise Failure("server_error", "the server's list of sandboxes does not end")
            seen.add(cursor)

    async def ping(self) -> None:
        """One authenticated request, the same whatever the account holds; raises Failure."""
        with translating_errors("asking the server"):
            found = await self._transport.sandboxes.list_sandboxes(
                limit=1, _request_timeout=REQUEST_TIMEOUT_S
            )
            if found is None:
                raise Failure("server_error", "the server answered a list with nothing")

    async def volume(self, name: str) -> VolumeInfo | None:
        """None where there is none of that name."""
        with translating_errors("looking for the volume"):
            found = await absent_is_none(
                self._volumes().get_volume_by_name(name, _request_timeout=REQUEST_TIMEOUT_S)
            )
        if found is not None:
            require_the_one("volume", name, found)
        return None if found is None else volume_of(found)

    async def create_volume(self, name: str) -> VolumeInfo:
        from daytona_api_client_async.models.create_volume import CreateVolume

        with translating_errors("making the volume"):
            found = await self._volumes().create_volume(
                CreateVolume(name=name), _request_timeout=REQUEST_TIMEOUT_S
            )
        require_the_one("volume", name, require_answer(found, "a volume"))
        return volume_of(found)

    async def delete_volume(self, volume_id: str) -> None:
        with translating_errors("deleting the volume"):
            await self._volumes().delete_volume(
                checked_id(volume_id), _request_timeout=REQUEST_TIMEOUT_S
            )

    def _volumes(self) -> Any:
        from daytona_api_client_async.api.volumes_api import VolumesApi

        return VolumesApi(self._transport.sandboxes.api_client)

    async def snapshot(self, id_or_name: str) -> SnapshotInfo | None:
        """None where there is none of that name."""
        with translating_errors("looking for the snapshot"):
            found = await absent_is_none(
                self._snapshots().get_snapshot(id_or_name, _request_timeout=REQUEST_TIMEOUT_S)
            )
        if found is not None:
            require_the_one("snapshot", id_or_name, found)
        return None if found is None else snapshot_of(found)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        with translating_errors("deleting the snapshot"):
            await self._snapshots().remove_snapshot(
                checked_id(snapshot_id), _request_timeout=REQUEST_TIMEOUT_S
            )

    def _snapshots(self) -> Any:
        from daytona_api_client_async.api.snapshots_api import SnapshotsApi

        return SnapshotsApi(self._transport.sandboxes.api_client)

    async def request_of(self, spec: CreateSpec) -> dict[str, Any]:
        """The body that `create` would send."""
        return create_request(spec, self._transport.target).to_dict()


async def absent_is_none(asking: Awaitable[Any]) -> Any:
    """What was asked for, None for a 404."""
    from .generated import ApiException

    try:
        return await asking
    except ApiException as error:
        if error.status != 404:
            raise
        return None


def require_answer(found: Any, what: str) -> Any:
    if found is None:
        raise Failure("server_error", f"the server answered without {what}")
    return found


def require_the_one(what: str, wanted: str, found: Any) -> None:
    """Raises Failure server_error where the server answered with another one."""
    if wanted not in (found.id, found.name):
        raise Failure(
            "server_error", f"the server answered a look for {what} {wanted} with another one"
        )


async def is_started(sandbox: Sandbox) -> bool:
    """What the server says now; False when it does not say in time."""
    with contextlib.suppress(Failure, asyncio.TimeoutError):
        await asyncio.wait_for(sandbox.refresh(), LAST_LOOK_S)
        return sandbox.info.state == STARTED
    return False


def create_request(spec: CreateSpec, target: str | None) -> CreateSandbox:
    """What AsyncDaytona makes of the same wishes."""
    from .generated import CreateBuildInfo, CreateSandbox, SandboxVolume

    request = CreateSandbox(
        name=spec.name,
        env={},
        labels={**spec.labels, **spec.identity.labels, LANGUAGE_LABEL: spec.language},
        target=spec.target or target,
        volumes=[
            SandboxVolume(volume_id=found, mount_path=path) for path, found in spec.volumes.items()
        ],
        auto_stop_interval=spec.auto_stop_min,
        auto_delete_interval=0 if spec.ephemeral else None,
        ttl_minutes=spec.ttl_min,
        secrets=[{variable: name} for variable, name in spec.secrets.items()] or None,
        kvm=None,
        spot=None,  # absent, as the SDK has it: the generated default is a false that is sent
        **(network_settings(spec.network) if spec.network else {}),
    )
    if spec.image is None:
        request.snapshot = spec.snapshot
    else:
        request.build_info = CreateBuildInfo(dockerfile_content=f"FROM {spec.image}\n")
        request.cpu, request.memory, request.disk = spec.cpu, spec.memory, spec.disk
    return request
