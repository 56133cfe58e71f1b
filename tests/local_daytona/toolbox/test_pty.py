"""Terminals by both SDKs and raw WebSockets: what they show, what stays, how each end is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.local_server import LocalServer, until

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"


def read_until(handle: Any, wanted: bytes, seen: bytes = b"") -> bytes:
    """What the synchronous SDK's handle yields, up to `wanted`."""
    for part in handle:
        seen += part
        if wanted in seen:
            return seen
    pytest.fail(f"the terminal ended after {seen!r}")


@pytest.fixture
def box(sdk: Any) -> Iterator[Any]:
    """A fresh sandbox of the synchronous SDK."""
    sandbox = sdk.create()
    yield sandbox
    sandbox.delete()


@contextlib.asynccontextmanager
async def connected(
    server: LocalServer, path: str, *, protocols: tuple[str, ...] = (EXIT_CONTROL,)
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A raw WebSocket to a sandbox's toolbox."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{server.url}/toolbox/{path}", headers=headers, protocols=protocols, autoping=True
        ) as socket,
    ):
        yield socket


async def output_until(socket: aiohttp.ClientWebSocketResponse, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        message = await socket.receive(timeout=60)
        assert message.type == aiohttp.WSMsgType.BINARY, (message, seen)
        seen += message.data
    return seen


async def rest_of(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """The control messages until the server closes."""
    return [
        json.loads(message.data)
        async for message in socket
        if message.type == aiohttp.WSMsgType.TEXT
    ]


def sessions(server: LocalServer, sandbox: str) -> list[dict[str, Any]]:
    reply = server.request("GET", f"/toolbox/{sandbox}/process/pty").json()
    found: list[dict[str, Any]] = reply["sessions"]
    return found


def new(server: LocalServer, sandbox: str, **fields: Any) -> int:
    return server.request(
        "POST", f"/toolbox/{sandbox}/process/pty", body={"id": "t", **fields}
    ).status


def test_the_sdk_opens_a_terminal_types_and_learns_the_exit_code(box: Any) -> None:
    """The documented call: a real login terminal with size, directory and variables.

    The shell's end is its end.
    """
    from daytona.common.pty import PtySize

    handle = box.process.create_pty_session(
        "main", cwd="/tmp", envs={"GREETING": "Grüße"}, pty_size=PtySize(rows=33, cols=111)
    )
    try:
        handle.send_input("tty; pwd; echo [$GREETING/$TERM]; stty size; echo over-$((1+1))\n")
        seen = read_until(handle, b"over-2")
        info = box.process.get_pty_session_info("main")
        handle.send_input("exit 7\n")
        result = handle.wait(timeout=60)
    finally:
        handle.disconnect()

    for wanted in ("/dev/pts/", "/tmp\r\n", "[Grüße/xterm-256color]", "33 111"):
        assert wanted.encode() in seen
    assert (info.id, info.cwd, info.envs, info.cols, info.rows, info.active) == (
        "main",
        "/tmp",
        {"TERM": "xterm-256color", "GREETING": "Grüße"},
        111,
        33,
        True,
    )
    assert (result.exit_code, result.error) == (7, "non-zero exit")
    assert box.process.list_pty_sessions() == []


def test_the_sdk_resizes_and_kills(box: Any) -> None:
    """The program learns the new size by itself; a killed terminal reports -1 and is gone."""
    from daytona import DaytonaNotFoundError
    from daytona.common.pty import PtySize

    handle = box.process.create_pty_session("main")
    try:
        handle.send_input("trap 'stty size; echo changed' WINCH; echo ready-$((1+1))\n")
        read_until(handle, b"ready-2")
        resized = handle.resize(PtySize(rows=50, cols=200))
        seen = read_until(handle, b"changed")
        handle.kill()
        result = handle.wait(timeout=60)
    finally:
        handle.disconnect()

    assert (resized.rows, resized.cols) == (50, 200)
    assert b"50 200" in seen
    assert result.exit_code == -1
    with pytest.raises(DaytonaNotFoundError):
        box.process.get_pty_session_info("main")


def test_the_asynchronous_sdk_leaves_and_comes_back(server: LocalServer) -> None:
    """The shell keeps its state while nobody is attached."""
    from daytona import AsyncDaytona, DaytonaConfig

    async def run() -> tuple[bytes, int | None]:
        async with AsyncDaytona(
            DaytonaConfig(api_key=server.api_key, api_url=server.api_url)
        ) as client:
            sandbox = await client.create()
            seen, is_set = bytearray(), asyncio.Event()

            async def collect(data: bytes) -> None:
                seen.extend(data)
                if b"set-2" in seen:
                    is_set.set()

            first = await sandbox.process.create_pty_session("main", on_data=collect)
            await first.send_input("kept=here; echo set-$((1+1))\n")
            await is_set.wait()
            await first.disconnect()
            second = await sandbox.process.connect_pty_session("main", on_data=collect)
            await second.send_input("echo got-$kept; exit\n")
            result = await second.wait()
            await sandbox.delete(timeout=60)
            return bytes(seen), result.exit_code

    seen, code = asyncio.run(asyncio.wait_for(run(), 120))

    assert b"got-here" in seen
    assert code == 0


def test_output_that_nobody_hears_is_dropped_and_never_blocks_the_program(
    server: LocalServer, sandbox: str
) -> None:
    """A build goes on while the laptop is closed; who comes back sees only what comes then."""

    async def run() -> tuple[bytes, bytes]:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.receive()
            await socket.send_bytes(
                b"stty -echo; head -c 30000000 /dev/zero | tr '\\0' Z >/dev/tty; "
                b"touch /tmp/through; sleep 1; echo la''ter\n"
            )
            await output_until(socket, b"ZZZ")
        await asyncio.to_thread(
            until, lambda: server.exec(sandbox, "test -e /tmp/through")["exitCode"] == 0, seconds=60
        )
        async with connected(server, f"{sandbox}/process/pty/t/connect") as socket:
            first = (await socket.receive()).data
            await socket.send_bytes(b"echo now-$((1+1))\n")
            return first.encode(), await output_until(socket, b"now-2")

    first, seen = asyncio.run(run())

    assert json.loads(first) == {"type": "control", "status": "connected"}
    assert len(seen) < 1_000_000


@pytest.mark.parametrize(
    ("typed", "code", "close", "end"),
    [
        (b"exit 0\n", 0, 1000, {"exitCode": 0}),
        (b"exit 3\n", 3, 1011, {"exitCode": 3, "exitReason": "(non-zero exit)"}),
        (b"kill -9 $$\n", -1, 1011, {"exitCode": -1, "exitReason": "(non-zero exit)"}),
    ],
)
def test_the_end_is_told_in_a_message_and_in_the_close_reason(
    server: LocalServer, sandbox: str, typed: bytes, code: int, close: int, end: dict[str, Any]
) -> None:
    """Clients that offered the exit message get it; all others read the close frame."""

    async def run(
        protocols: tuple[str, ...],
    ) -> tuple[str | None, list[dict[str, Any]], int | None]:
        async with connected(
            server, f"{sandbox}/process/pty/create-connect?id=t", protocols=protocols
        ) as socket:
            await socket.send_bytes(typed)
            messages = await rest_of(socket)
            return socket.protocol, messages, socket.close_code

    assert asyncio.run(run((EXIT_CONTROL,))) == (
        EXIT_CONTROL,
        [
            {"type": "control", "status": "connected"},
            {"type": "control", "status": "exited", **end},
        ],
        close,
    )
    assert asyncio.run(run(())) == (None, [{"type": "control", "status": "connected"}], close)


def test_everything_that_the_shell_wrote_arrives_before_its_end(
    server: LocalServer, sandbox: str
) -> None:
    """A failing build's last lines matter most, also when a child still holds the terminal."""

    async def run() -> bytes:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.receive()
            await socket.send_bytes(b"trap '' HUP; sleep 1000 & seq 1 20000; echo las''t; exit\n")
            return b"".join(
                [
                    message.data
                    async for message in socket
                    if message.type == aiohttp.WSMsgType.BINARY
                ]
            )

    seen = asyncio.run(asyncio.wait_for(run(), 120))

    assert b"20000\r\nlast\r\n" in seen


def test_a_created_terminal_runs_at_once_or_with_lazy_start_at_the_first_connection(
    server: LocalServer, sandbox: str
) -> None:
    """POST alone starts the program, unless it is to wait for someone who sees its first output."""

    async def first_output() -> bytes:
        async with connected(server, f"{sandbox}/process/pty/lazy/connect") as socket:
            await socket.receive()
            await socket.send_bytes(b"echo up-$((1+1))\n")
            return await output_until(socket, b"up-2")

    reply = server.request(
        "POST",
        f"/toolbox/{sandbox}/process/pty",
        body={"id": "eager", "cols": 100, "envs": {"A": "b"}},
    )
    lazy = new(server, sandbox, id="lazy", lazyStart=True)
    before = {
        item["id"]: (item["active"], item["lazyStart"], item["cols"], item["rows"])
        for item in sessions(server, sandbox)
    }
    seen = asyncio.run(first_output())
    after = {item["id"]: item["active"] for item in sessions(server, sandbox)}

    assert (reply.status, reply.json(), lazy) == (201, {"sessionId": "eager"}, 201)
    assert before == {"eager": (True, False, 100, 24), "lazy": (False, True, 80, 24)}
    assert b"$" in seen or b"#" in seen or b"%" in seen
    assert after == {"eager": True, "lazy": True}


def test_variables_of_a_terminal_stay_out_of_the_servers_log(
    server: LocalServer, sandbox: str
) -> None:
    """They travel as a subprotocol, which the HTTP library logs when it knows none of them."""
    secret = (
        base64.urlsafe_b64encode(json.dumps({"TOKEN": "geheim-4711"}).encode())
        .rstrip(b"=")
        .decode()
    )

    async def run(path: str, *protocols: str) -> str | None:
        async with connected(
            server,
            f"{sandbox}/process/pty/{path}",
            protocols=(f"X-Daytona-Pty-Envs~{secret}", *protocols),
        ) as socket:
            await socket.receive()
            await socket.send_bytes(b"echo [$TOKEN]\n")
            await output_until(socket, b"[geheim-4711]")
            return socket.protocol

    assert asyncio.run(run("create-connect?id=t", EXIT_CONTROL)) == EXIT_CONTROL
    assert asyncio.run(run("create-connect?id=u")) is not None
    server.request(
        "GET",
        f"/toolbox/{sandbox}/process/pty/t/connect",
        headers={"Sec-WebSocket-Protocol": secret},
    )
    assert secret not in (server.state_dir / "server.log").read_text()


def test_nothing_stays_open_in_the_server(server: LocalServer, sandbox: str) -> None:
    """Terminals that ended, that were killed, and that a client left: descriptors come back."""
    folder = Path(f"/proc/{server.pid}/fd")

    async def run(number: int) -> None:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id={number}") as socket:
            await socket.receive()
            if number % 3 == 0:
                await socket.send_bytes(b"exit\n")
                await rest_of(socket)
        if number % 3:
            server.request("DELETE", f"/toolbox/{sandbox}/process/pty/{number}")

    asyncio.run(run(0))
    before = len(list(folder.iterdir()))
    for number in range(1, 20):
        asyncio.run(run(number))

    until(lambda: len(list(folder.iterdir())) <= before + 2)
    assert sessions(server, sandbox) == []


def test_two_clients_see_the_same_terminal(server: LocalServer, sandbox: str) -> None:
    """One looks on while the other types."""

    async def run() -> bytes:
        async with (
            connected(server, f"{sandbox}/process/pty/create-connect?id=t") as one,
            connected(server, f"{sandbox}/process/pty/t/connect") as two,
        ):
            await one.receive()
            await two.receive()
            await one.send_bytes(b"echo both-$((1+1))\n")
            await output_until(one, b"both-2")
            return await output_until(two, b"both-2")

    assert b"both-2" in asyncio.run(asyncio.wait_for(run(), 60))


def test_ctrl_c_reaches_the_program(server: LocalServer, sandbox: str) -> None:
    """A terminal is one: the line discipline makes the signal."""

    async def run() -> bytes:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.receive()
            await socket.send_bytes(b"sh -c 'echo slee\"\"ping; exec sleep 1000'; echo af''ter\n")
            await output_until(socket, b"sleeping")
            await socket.send_bytes(b"\x03echo al''ive\n")
            return await output_until(socket, b"alive")

    assert b"^C" in asyncio.run(asyncio.wait_for(run(), 60))


def test_pasting_into_a_program_that_does_not_read_hurts_nobody(
    server: LocalServer, sandbox: str
) -> None:
    """What it does not take is lost; the terminal and the server answer on."""

    async def run() -> list[dict[str, Any]]:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.receive()
            await socket.send_bytes(b"stty raw -echo; echo re''ady; sleep 1000\n")
            await output_until(socket, b"ready")
            for _ in range(64):
                await socket.send_bytes(b"x" * 64_000)
            reply = await asyncio.to_thread(
                server.request, "DELETE", f"/toolbox/{sandbox}/process/pty/t"
            )
            assert reply.status == 200
            return await rest_of(socket)

    assert asyncio.run(asyncio.wait_for(run(), 120))[-1]["exitCode"] == -1
    assert sessions(server, sandbox) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a/b"},
        {"id": 5},
        {"cols": 1001},
        {"rows": -1},
        {"envs": {"A=B": "c"}},
        {"envs": [1]},
    ],
)
def test_a_terminal_that_makes_no_sense_is_refused_and_leaves_nothing(
    server: LocalServer, sandbox: str, fields: dict[str, Any]
) -> None:
    """The same refusal for both ways to create one."""
    assert new(server, sandbox, **fields) == 400
    assert sessions(server, sandbox) == []


@pytest.mark.parametrize("cwd", ["/nowhere", "/etc/passwd"])
def test_a_terminal_that_cannot_start_is_the_daemons_500(
    server: LocalServer, sandbox: str, cwd: str
) -> None:
    """And over a WebSocket a message, after which the connection breaks off."""

    async def run() -> tuple[list[dict[str, Any]], int | None]:
        path = f"{sandbox}/process/pty/create-connect?id=u&cwd={cwd}"
        async with connected(server, path) as socket:
            return await rest_of(socket), socket.close_code

    messages, code = asyncio.run(run())
    assert new(server, sandbox, cwd=cwd) == 500
    assert [message["status"] for message in messages] == ["error"]
    assert code in (1006, None)
    assert sessions(server, sandbox) == []


def test_an_unknown_terminal_is_told_over_the_websocket(server: LocalServer, sandbox: str) -> None:
    """The SDK reads that as an error of the terminal, not of the connection."""

    async def run() -> list[dict[str, Any]]:
        async with connected(server, f"{sandbox}/process/pty/other/connect") as socket:
            return await rest_of(socket)

    assert asyncio.run(run()) == [
        {
            "type": "control",
            "status": "error",
            "error": "Failed to connect to PTY session: PTY session other not found",
        }
    ]


def test_a_message_of_more_than_64_kib_ends_the_connection(
    server: LocalServer, sandbox: str
) -> None:
    """The terminal stays; whoever pastes much has to send it in parts."""

    async def run() -> None:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.send_bytes(b"x" * 65_537)
            await rest_of(socket)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [item["id"] for item in sessions(server, sandbox)] == ["t"]


def test_sizes_are_the_daemons(server: LocalServer, sandbox: str) -> None:
    """0 is one; a part that is left out of a change is 0; before the start there is none."""
    path = f"/toolbox/{sandbox}/process/pty"
    assert new(server, sandbox, id="zero", cols=0, rows=0) == 201
    assert new(server, sandbox, id="lazy", lazyStart=True) == 201
    by_id = {item["id"]: (item["cols"], item["rows"]) for item in sessions(server, sandbox)}

    assert by_id == {"zero": (0, 0), "lazy": (80, 24)}
    resized = server.request("POST", f"{path}/zero/resize", body={"cols": 5})
    assert (resized.status, resized.json()["rows"]) == (200, 0)
    assert server.request("POST", f"{path}/lazy/resize", body={"cols": 5, "rows": 5}).status == 500
    assert server.request("POST", f"{path}/none/resize", body={"cols": 5}).status == 410


def test_a_terminal_takes_variables_that_no_shell_can_name(
    server: LocalServer, sandbox: str
) -> None:
    """As the daemon does; programs see them."""
    assert new(server, sandbox, envs={"A-B": "c"}) == 201


def refusal(server: LocalServer, path: str, *, protocols: tuple[str, ...] = ()) -> int:
    async def run() -> None:
        async with connected(server, path, protocols=protocols):
            pass

    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        asyncio.run(run())
    return failed.value.status


def test_a_websocket_is_refused_by_http_status(server: LocalServer, sandbox: str) -> None:
    """The SDK turns the status of the refused upgrade into its own errors."""
    broken = "X-Daytona-Pty-Envs~" + base64.urlsafe_b64encode(b"[1]").rstrip(b"=").decode()
    assert new(server, sandbox) == 201

    assert new(server, sandbox) == 409
    assert refusal(server, f"{sandbox}/process/pty/create-connect?id=t") == 409
    assert refusal(server, f"{sandbox}/process/pty/create-connect?id=u&cols=x") == 400
    assert refusal(server, f"{sandbox}/process/pty/create-connect?id=u", protocols=(broken,)) == 400
    unreadable = refusal(
        server,
        f"{sandbox}/process/pty/create-connect?id=u",
        protocols=("X-Daytona-Pty-Envs~!",),
    )
    assert unreadable == 400
    plain = server.request("GET", f"/toolbox/{sandbox}/process/pty/create-connect?id=u").status
    assert plain == 400
    assert server.request("DELETE", f"/toolbox/{sandbox}/process/pty/other").status == 404
    assert [item["id"] for item in sessions(server, sandbox)] == ["t"]


@pytest.mark.parametrize(
    "end",
    [
        lambda server, sandbox: server.request("DELETE", f"/api/sandbox/{sandbox}"),
        lambda server, sandbox: server.request("POST", f"/api/sandbox/{sandbox}/stop"),
    ],
    ids=["delete", "stop"],
)
def test_the_end_of_the_sandbox_closes_its_terminals(
    server: LocalServer, end: Callable[[LocalServer, str], object]
) -> None:
    """A client that waits must not wait for ever."""
    sandbox = server.create()["id"]

    async def run() -> int | None:
        async with connected(server, f"{sandbox}/process/pty/create-connect?id=t") as socket:
            await socket.receive()
            await asyncio.to_thread(end, server, sandbox)
            await rest_of(socket)
            return socket.close_code

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 1001
    server.request("DELETE", f"/api/sandbox/{sandbox}")


def test_the_entrypoint_session_is_there_and_empty(box: Any, server: LocalServer) -> None:
    """Clients ask for it without looking whether the snapshot has one."""
    followed: list[str] = []
    session, logs = box.process.get_entrypoint_session(), box.process.get_entrypoint_logs()

    async def follow() -> int | None:
        async with connected(
            server, f"{box.id}/process/session/entrypoint/logs?follow=true", protocols=()
        ) as socket:
            followed.extend([str(message.data) async for message in socket])
            return socket.close_code

    assert (session.session_id, session.commands) == ("entrypoint", [])
    assert (logs.output, logs.stdout, logs.stderr) == ("", "", "")
    assert (asyncio.run(follow()), followed) == (1000, [])
