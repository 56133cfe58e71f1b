"""Our calls by the SDK's generated clients send the same requests as the SDK's own."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,
    AsyncSandbox,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    DaytonaConfig,
    FileUpload,
    ListSandboxesQuery,
    Resources,
    SessionExecuteRequest,
    VolumeMount,
)

from sandbox_kit.errors import Failure
from sandbox_kit.network_rule import NetworkRule
from sandbox_kit.ownership import RunIdentity, User
from sandbox_kit.request import Repository
from sandbox_kit.sdk import Client, CreateSpec, Sandbox
from sandbox_kit.sdk.session_log import Demultiplexer
from sandbox_kit.settings import Settings
from tests.benchmarks.instant import Instant, Received, running_instant
from tests.serving import serving

# What differs from request to request, or says nothing to the server.
UNCOMPARED = {"Host", "Sec-WebSocket-Key", "Content-Length"}
IDENTITY = RunIdentity("20261126-010203-0123abcd", "n", User("0" * 32))
LABELS = IDENTITY.labels
SPEC = CreateSpec(IDENTITY, labels={}, ephemeral=True, auto_stop_min=15, ttl_min=60)
COMMON: dict[str, Any] = {
    "name": "n",
    "labels": LABELS,
    "language": "python",
    "auto_stop_interval": 15,
    "ttl_minutes": 60,
}

Ours = Callable[[Client, Sandbox], Awaitable[object]]
Theirs = Callable[[AsyncDaytona, AsyncSandbox], Awaitable[object]]


@pytest.fixture(scope="module")
def instant() -> Iterator[Instant]:
    with running_instant() as found:
        yield found


def settings(instant: Instant, **changed: Any) -> Settings:
    plain = Settings(
        engine="cloud", endpoint=f"{instant.url}/api", key_source="a test", api_key="k"
    )
    return dataclasses.replace(plain, **changed)


async def everything(items: Any) -> None:
    async for _ in items:
        pass


async def first(number: int, items: Any) -> None:
    async for _ in items:
        number -= 1
        if not number:
            return


def create(spec: CreateSpec) -> Ours:
    return lambda client, _: client.create(spec, timeout_s=60.0, on_build_log=lambda _text: None)


def create_by_sdk(params: Any) -> Theirs:
    return lambda daytona, _: daytona.create(params, timeout=60)


def snapshot(**fields: Any) -> CreateSandboxFromSnapshotParams:
    return CreateSandboxFromSnapshotParams(**{**COMMON, "labels": dict(LABELS), **fields})


def image(**fields: Any) -> CreateSandboxFromImageParams:
    return CreateSandboxFromImageParams(**{**COMMON, "labels": dict(LABELS), **fields})


def replaced(**fields: Any) -> CreateSpec:
    return dataclasses.replace(SPEC, **fields)


async def upload_open_file(handle: Sandbox) -> None:
    Path("here.txt").write_text("content")
    await handle.upload_file("here.txt", "there.txt")


REPO = Repository("https://github.com/o/r", branch="b", commit=None, depth=1, token="t")
COMMIT = Repository("https://github.com/o/r", branch=None, commit="c0ffee", depth=None)
CALLS: dict[str, tuple[Ours, Theirs]] = {
    "create": (create(SPEC), create_by_sdk(snapshot(ephemeral=True))),
    "create kept": (create(replaced(ephemeral=False)), create_by_sdk(snapshot())),
    "create javascript": (
        create(replaced(language="javascript", snapshot="daytona-small")),
        create_by_sdk(snapshot(ephemeral=True, language="javascript", snapshot="daytona-small")),
    ),
    "create with secrets": (
        create(replaced(target="eu", secrets={"A": "a"})),
        create_by_sdk(snapshot(ephemeral=True, target="eu", secrets={"A": "a"})),
    ),
    "create with a label": (
        create(replaced(labels={"team": "web"})),
        create_by_sdk(snapshot(ephemeral=True, labels={"team": "web", **LABELS})),
    ),
    "create without a network": (
        create(replaced(network=NetworkRule(block_all=True))),
        create_by_sdk(snapshot(ephemeral=True, network_block_all=True)),
    ),
    "create with domains": (
        create(replaced(network=NetworkRule(domains=("pypi.org", "*.x.org")))),
        create_by_sdk(snapshot(ephemeral=True, domain_allow_list="pypi.org,*.x.org")),
    ),
    "create with ranges": (
        create(replaced(network=NetworkRule(cidrs=("8.8.8.0/24",)))),
        create_by_sdk(snapshot(ephemeral=True, network_allow_list="8.8.8.0/24")),
    ),
    "create from an image": (
        create(replaced(image="debian:12.9")),
        create_by_sdk(image(ephemeral=True, image="debian:12.9")),
    ),
    "create from an image with sizes": (
        create(replaced(image="debian:12.9", cpu=2, memory=4)),
        create_by_sdk(
            image(ephemeral=True, image="debian:12.9", resources=Resources(cpu=2, memory=4))
        ),
    ),
    "create with a volume": (
        create(replaced(volumes={"/data": "v1"})),
        create_by_sdk(
            snapshot(ephemeral=True, volumes=[VolumeMount(volume_id="v1", mount_path="/data")])
        ),
    ),
    "volume": (
        lambda client, _: client.volume("v"),
        lambda daytona, _: daytona.volume.get("v"),
    ),
    "make a volume": (
        lambda client, _: client.create_volume("v"),
        lambda daytona, _: daytona.volume.create("v"),
    ),
    "delete a volume": (
        lambda client, _: client.delete_volume("00000000-0000-4000-8000-000000000001"),
        lambda daytona, _: delete_volume_by_sdk(daytona),
    ),
    "snapshot": (
        lambda client, _: client.snapshot("s"),
        lambda daytona, _: daytona.snapshot.get("s"),
    ),
    "delete a snapshot": (
        lambda client, _: client.delete_snapshot("00000000-0000-4000-8000-000000000001"),
        lambda daytona, _: delete_snapshot_by_sdk(daytona),
    ),
    "make a snapshot": (
        lambda _, handle: handle.save_as("s", timeout_s=60.0),
        lambda _, sandbox: sandbox.create_snapshot("s"),
    ),
    "get": (lambda client, _: client.get("some-name"), lambda daytona, _: daytona.get("some-name")),
    "list": (
        lambda client, _: everything(client.list(LABELS)),
        lambda daytona, _: everything(daytona.list(ListSandboxesQuery(labels=LABELS, limit=100))),
    ),
    "list further": (
        lambda client, _: first(101, client.list({})),
        lambda daytona, _: first(101, daytona.list(ListSandboxesQuery(limit=100))),
    ),
    "ping": (
        lambda client, _: client.ping(),
        lambda daytona, _: everything(daytona.list(ListSandboxesQuery(limit=1))),
    ),
    "start": (lambda _, handle: handle.start(60.0), lambda _, sandbox: sandbox.start()),
    "stop": (lambda _, handle: stopped(handle), lambda _, sandbox: sandbox.stop()),
    "recover": (lambda _, handle: handle.recover(60.0), lambda _, sandbox: sandbox.recover()),
    "ttl": (
        lambda _, handle: handle.set_ttl(90),
        lambda _, sandbox: refreshed(sandbox, sandbox.set_ttl(90)),
    ),
    "auto-stop": (
        lambda _, handle: handle.set_auto_stop(0),
        lambda _, sandbox: refreshed(sandbox, sandbox.set_autostop_interval(0)),
    ),
    "refresh": (lambda _, handle: handle.refresh(), lambda _, sandbox: sandbox.refresh_data()),
    "delete": (lambda _, handle: handle.delete(), lambda _, sandbox: sandbox.delete()),
    "delete by id": (
        lambda client, handle: client.delete(handle.info.id),
        lambda _, sandbox: sandbox.delete(),
    ),
    "folder": (
        lambda _, handle: handle.make_private_folder("a b/c"),
        lambda _, sandbox: sandbox.fs.create_folder("a b/c", "700"),
    ),
    "upload": (
        lambda _, handle: handle.upload({"a": b"1", "ä/b": b"2"}),
        lambda _, sandbox: sandbox.fs.upload_files(
            [FileUpload(source=b"1", destination="a"), FileUpload(source=b"2", destination="ä/b")]
        ),
    ),
    "upload an open file": (
        lambda _, handle: upload_open_file(handle),
        lambda _, sandbox: sandbox.fs.upload_file("here.txt", "there.txt"),
    ),
    "download": (
        lambda _, handle: handle.download_file("a b/ä", io.BytesIO(), limit=100),
        lambda _, sandbox: sandbox.fs._api_client.download_file("a b/ä"),
    ),
    "remove": (
        lambda _, handle: handle.remove_folder("/tmp/x"),
        lambda _, sandbox: sandbox.fs.delete_file("/tmp/x", recursive=True),
    ),
    "info": (
        lambda _, handle: handle.has_file("a b"),
        lambda _, sandbox: sandbox.fs.get_file_info("a b"),
    ),
    "folder's info": (
        lambda _, handle: handle.has_folder("a b"),
        lambda _, sandbox: sandbox.fs.get_file_info("a b"),
    ),
    "clone": (
        lambda _, handle: handle.clone(REPO, "repo"),
        lambda _, sandbox: sandbox.git.clone(
            REPO.url, "repo", branch="b", depth=1, username="x-access-token", password="t"
        ),
    ),
    "clone a commit": (
        lambda _, handle: handle.clone(COMMIT, "repo"),
        lambda _, sandbox: sandbox.git.clone(COMMIT.url, "repo", commit_id="c0ffee"),
    ),
    "exec": (
        lambda _, handle: handle.exec("true 'x'", timeout_s=5),
        lambda _, sandbox: sandbox.process.exec(
            """exec sh -c 'true '"'"'x'"'"'' </dev/null""", timeout=5
        ),
    ),
    "restrict": (
        lambda _, handle: restricted(handle),
        lambda _, sandbox: restricted_by_sdk(sandbox),
    ),
    "preview": (
        lambda _, handle: handle.preview_url(8000),
        lambda _, sandbox: sandbox.get_preview_link(8000),
    ),
    "signed preview": (
        lambda _, handle: handle.signed_preview_url(8000, 60),
        lambda _, sandbox: sandbox.create_signed_preview_url(8000, 60),
    ),
    "public": (
        lambda _, handle: handle.set_public(True),
        lambda _, sandbox: refreshed(sandbox, sandbox.set_public(True)),
    ),
    "no longer public": (
        lambda _, handle: handle.set_public(False),
        lambda _, sandbox: refreshed(sandbox, sandbox.set_public(False)),
    ),
    "labels": (
        lambda _, handle: handle.add_labels({"a": "b"}),
        lambda _, sandbox: refreshed(sandbox, sandbox.set_labels({"a": "b"})),
    ),
    "sessions": (
        lambda _, handle: handle.commands(),
        lambda _, sandbox: sandbox.process.list_sessions(),
    ),
    "session": (
        lambda _, handle: handle.create_session("s"),
        lambda _, sandbox: sandbox.process.create_session("s"),
    ),
    "start a command": (
        lambda _, handle: handle.start_command("s", "echo"),
        lambda _, sandbox: sandbox.process.execute_session_command(
            "s", SessionExecuteRequest(command="echo", run_async=True)
        ),
    ),
    "follow": (
        lambda _, handle: handle.follow("s", "c", ignore, ignore),
        lambda _, sandbox: sandbox.process.get_session_command_logs_async("s", "c", ignore, ignore),
    ),
    "logs": (
        lambda _, handle: handle.logs("s", "c", ignore, ignore),
        lambda _, sandbox: sandbox.process.get_session_command_logs("s", "c"),
    ),
    "exit code": (
        lambda _, handle: handle.exit_code("s", "c"),
        lambda _, sandbox: sandbox.process.get_session_command("s", "c"),
    ),
    "delete a session": (
        lambda _, handle: handle.delete_session("s"),
        lambda _, sandbox: sandbox.process.delete_session("s"),
    ),
    "activity": (
        lambda _, handle: handle.refresh_activity(),
        lambda _, sandbox: sandbox.refresh_activity(),
    ),
}

# What the server shall say to a call that waits for it.
ANSWERS: dict[str, dict[str, Any]] = {
    "list further": {"sandboxes": 101},
    "stop": {"state": "stopped"},
}

NOT_COMPARED = {
    "Client.open": "connects to nothing",
    "Client.request_of": "sends nothing: it shows the body of `create`",
    "Sandbox.info": "sends nothing",
    "Sandbox.require": "sends nothing",
    "Sandbox.open_terminal": "compared in test_shell",
    "Sandbox.wait_for_start": "sends what `refresh` sends, until it is started",
}


async def delete_volume_by_sdk(daytona: AsyncDaytona) -> None:
    """Without the look before it."""
    await daytona.volume._AsyncVolumeService__volumes_api.delete_volume(  # type: ignore[attr-defined]
        "00000000-0000-4000-8000-000000000001"
    )


async def delete_snapshot_by_sdk(daytona: AsyncDaytona) -> None:
    """Without the look before it."""
    await daytona.snapshot._AsyncSnapshotService__snapshots_api.remove_snapshot(  # type: ignore[attr-defined]
        "00000000-0000-4000-8000-000000000001"
    )


def ignore(_text: str) -> None:
    pass


async def restricted(handle: Sandbox) -> None:
    with pytest.raises(Failure, match="did not apply"):  # the instant server changes nothing
        await handle.restrict(NetworkRule(domains=("a.org",)))


async def restricted_by_sdk(sandbox: AsyncSandbox) -> None:
    await sandbox.update_network_settings(domain_allow_list="a.org")
    await sandbox.refresh_data()


async def stopped(handle: Sandbox) -> None:
    """The SDK looks again after any stop, we only where the answer is not the end of it."""
    await handle.stop()
    await handle.refresh()


async def refreshed(sandbox: AsyncSandbox, work: Awaitable[object]) -> None:
    await work
    await sandbox.refresh_data()


async def sent_by_us(instant: Instant, used: Settings, call: Ours) -> list[Received]:
    async with Client.open(used) as client:
        handle = await client.get("x")
        before = len(instant.received)
        await call(client, handle)
    return instant.received[before:]


async def sent_by_the_sdk(instant: Instant, used: Settings, call: Theirs) -> list[Received]:
    config = DaytonaConfig(
        api_key=used.api_key,
        jwt_token=used.jwt_token,
        organization_id=used.organization_id,
        api_url=used.endpoint,
    )
    async with AsyncDaytona(config) as daytona:
        sandbox = await daytona.get("x")
        before = len(instant.received)
        await call(daytona, sandbox)
    return instant.received[before:]


def comparable(found: Received) -> dict[str, Any]:
    """A request without what differs each time; JSON as it is meant."""
    boundary = re.search(r"boundary=(\S+)", found.headers.get("Content-Type", ""))
    headers = {name: value for name, value in found.headers.items() if name not in UNCOMPARED}
    body: Any = found.body
    if found.method == "GET":
        headers.pop("Content-Type", None)  # the generator names one for what it does not send
    if boundary is not None:
        headers["Content-Type"] = "multipart"
        body = body.replace(boundary[1].encode(), b"BOUNDARY")
    elif body:
        body = json.loads(body)
    return {"method": found.method, "target": found.target, "headers": headers, "body": body}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_ours_sends_what_the_sdk_sends(
    instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An SDK that changes a path, a field or a header fails here, not at a user's."""
    monkeypatch.chdir(tmp_path)
    for field, value in ANSWERS.get(name, {}).items():
        monkeypatch.setattr(instant, field, value)
    ours, theirs = CALLS[name]
    sent = asyncio.run(sent_by_us(instant, settings(instant), ours))
    expected = asyncio.run(sent_by_the_sdk(instant, settings(instant), theirs))

    assert sent
    assert [comparable(found) for found in sent] == [comparable(found) for found in expected]


class Building(Instant):
    """An image takes its time: it is built until someone has looked, and then read its log."""

    def sandbox(self, number: int = 0) -> dict[str, Any]:
        since = self.requests[::-1]
        since = since[: since.index("POST /api/sandbox")] if "POST /api/sandbox" in since else []
        read = any(asked.endswith("?follow=true") for asked in since)
        state = "started" if read else "building_snapshot" if since else "pending_build"
        return {**super().sandbox(number), "state": state}


class Terse(Instant):
    """No sandbox names its toolbox."""

    def sandbox(self, number: int = 0) -> dict[str, Any]:
        return {**super().sandbox(number), "toolboxProxyUrl": ""}


def test_a_builds_log_is_asked_for_as_the_sdk_does() -> None:
    """All but the looks at the state, of which each makes as many as it needs."""

    def asked(sent: list[Received]) -> list[dict[str, Any]]:
        look = f"/api/sandbox/{Instant().sandbox()['id']}"
        return [comparable(found) for found in sent if found.target != look]

    building = Building()
    by_sdk = image(ephemeral=True, image="debian:12.9")
    with serving(building.handle) as building.url:
        ours = sent_by_us(building, settings(building), create(replaced(image="debian:12.9")))
        sent = asked(asyncio.run(ours))
        theirs = sent_by_the_sdk(
            building,
            settings(building),
            lambda daytona, _: daytona.create(by_sdk, timeout=60, on_snapshot_create_logs=ignore),
        )
        expected = asked(asyncio.run(theirs))

    assert [found["target"].rpartition("/")[2] for found in sent] == [
        "sandbox",
        "build-logs-url",
        "page?follow=true",
    ]
    assert sent == expected


def test_a_toolbox_that_nobody_named_is_asked_for_as_the_sdk_does() -> None:
    """An endpoint whose answers leave the address out is served all the same."""

    async def ours(client: Client, _: Sandbox) -> None:
        made = await client.create(SPEC, timeout_s=60.0, on_build_log=ignore)
        await made.delete_session("s")

    async def theirs(daytona: AsyncDaytona, _: AsyncSandbox) -> None:
        made = await daytona.create(snapshot(ephemeral=True), timeout=60)
        await made.process.delete_session("s")

    terse = Terse()
    with serving(terse.handle) as terse.url:
        sent = asyncio.run(sent_by_us(terse, settings(terse), ours))
        expected = asyncio.run(sent_by_the_sdk(terse, settings(terse), theirs))

    assert [found.target.rpartition("/")[2] for found in sent] == [
        "sandbox",
        "toolbox-proxy-url",
        "s",
    ]
    assert [comparable(found) for found in sent] == [comparable(found) for found in expected]


class Noting:
    """A client or a handle, and what is used of it from outside."""

    def __init__(self, watched: Client | Sandbox, used: set[str]) -> None:
        self._watched = watched
        self._used = used

    def __getattr__(self, name: str) -> Any:
        self._used.add(f"{type(self._watched).__name__}.{name}")
        return getattr(self._watched, name)


def test_every_call_of_ours_is_compared(
    instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new call that nobody compares fails, and so does a table that lost one."""
    monkeypatch.chdir(tmp_path)
    used = set[str]()

    async def make_all() -> None:
        async with Client.open(settings(instant)) as client:
            handle: Any = Noting(await client.get("x"), used)
            noting: Any = Noting(client, used)
            for name, (ours, _) in CALLS.items():
                with monkeypatch.context() as patch:
                    for field, value in ANSWERS.get(name, {}).items():
                        patch.setattr(instant, field, value)
                    await ours(noting, handle)

    asyncio.run(make_all())
    public = {
        f"{owner.__name__}.{name}"
        for owner in (Client, Sandbox)
        for name in vars(owner)
        if not name.startswith("_")
    }

    assert used | set(NOT_COMPARED) == public


def test_a_token_of_a_login_is_sent_with_its_organization(instant: Instant) -> None:
    """As the SDK does, on both the API and the toolbox."""
    used = settings(instant, api_key=None, jwt_token="token", organization_id="org")
    sent = asyncio.run(sent_by_us(instant, used, CALLS["exec"][0]))
    expected = asyncio.run(sent_by_the_sdk(instant, used, CALLS["exec"][1]))

    assert [comparable(found) for found in sent] == [comparable(found) for found in expected]
    assert sent[0].headers["X-Daytona-Organization-ID"] == "org"


def demultiplexed(messages: list[bytes]) -> tuple[str, str]:
    out: list[str] = []
    err: list[str] = []
    streams = Demultiplexer(out.append, err.append)
    for message in messages:
        streams.feed(message)
    streams.close()
    return "".join(out), "".join(err)


async def demultiplexed_by_the_sdk(messages: list[bytes]) -> tuple[str, str]:
    from daytona._utils import stream

    left, out, err = [*messages, None], list[str](), list[str]()

    async def receive() -> bytes | None:
        return left.pop(0)

    await stream._std_demux_loop(receive, out.append, err.append)
    return "".join(out), "".join(err)


@pytest.mark.parametrize("seed", range(30))
def test_streams_are_told_apart_as_the_sdk_does(seed: int) -> None:
    """Marks and characters cut at any place, bytes that are no text, lone bytes of a mark."""
    chance = random.Random(seed)
    pieces = [
        b"\x01\x01\x01",
        b"\x02\x02\x02",
        b"text\n",
        "ä€𝄞".encode(),
        b"\xff",
        b"\x01",
        b"\x02",
        b"",
    ]
    data = b"\x01\x01\x01" + b"".join(chance.choices(pieces, k=60))
    cuts = sorted(chance.choices(range(len(data)), k=12))
    messages = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert demultiplexed(messages) == asyncio.run(demultiplexed_by_the_sdk(messages))


def test_a_plain_run_does_not_import_the_whole_sdk(instant: Instant) -> None:
    """The half of the time that this saves would be lost silently."""
    import subprocess
    import sys

    program = (
        "import sys; sys.argv[1:] = ['--command', 'echo 1']; from sandbox_kit import entry;"
        "code = entry.run_in_sandbox(sys.argv[1:]); "
        "print(code, 'daytona._async.daytona' in sys.modules, 'aiohttp' in sys.modules)"
    )
    variables = {
        **os.environ,
        "DAYTONA_API_URL": f"{instant.url}/api",
        "DAYTONA_API_KEY": "k",
        "PYTHONPATH": str(Path(__file__).parents[2] / "scripts"),
    }
    found = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
    )

    assert found.stdout.splitlines()[-1] == "0 False True"


def test_a_secure_servers_toolbox_is_secure_too(instant: Instant) -> None:
    """Else key, program and variables would go in clear from there on."""

    async def use(endpoint: str, toolbox: str) -> None:
        async with Client.open(settings(instant, endpoint=endpoint)) as client:
            client._transport.toolbox(toolbox, "id")

    asyncio.run(use("https://127.0.0.1:1/api", "https://127.0.0.1:2/toolbox"))
    asyncio.run(use("http://127.0.0.1:1/api", "http://127.0.0.1:2/toolbox"))
    with pytest.raises(Failure) as caught:
        asyncio.run(use("https://127.0.0.1:1/api", "http://127.0.0.1:2/toolbox"))

    assert caught.value.kind == "server_error"
