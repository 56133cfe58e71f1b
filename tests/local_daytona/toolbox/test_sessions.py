"""Sessions against the real server, through the unmodified SDK."""

from __future__ import annotations

import asyncio
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from tests.local_server import LocalServer, until


@pytest.fixture
def process(sdk: Any, sandbox: str) -> Any:
    """The process calls of a sandbox that has a session named `s`."""
    process = sdk.get(sandbox).process
    process.create_session("s")
    return process


def execute(process: Any, command: str, **options: Any) -> Any:
    from daytona import SessionExecuteRequest

    return process.execute_session_command("s", SessionExecuteRequest(command=command, **options))


def follow(process: Any, command_id: str) -> tuple[str, str]:
    """Both streams of a command, by the WebSocket, until it ends."""
    out: list[str] = []
    err: list[str] = []
    asyncio.run(process.get_session_command_logs_async("s", command_id, out.append, err.append))
    return "".join(out), "".join(err)


def test_streams_stay_apart_and_the_exit_code_is_the_commands(process: Any) -> None:
    """What exec merges, a session splits."""
    ended = execute(process, "echo out; echo err >&2; false")

    assert (ended.stdout, ended.stderr, ended.exit_code) == ("out\n", "err\n", 1)


def test_directory_variables_and_functions_persist(process: Any) -> None:
    """Commands are sourced in one shell."""
    execute(process, "cd /tmp; export WORD=kept; greet() { echo hello $1; }")

    assert execute(process, "pwd; echo $WORD; greet you").stdout == "/tmp\nkept\nhello you\n"


def test_a_last_line_without_newline_gains_one(process: Any) -> None:
    """As in the real daemon, whose logs are made of lines."""
    assert execute(process, "printf abc").stdout == "abc\n"


def test_nul_bytes_and_broken_utf8_pass_through_the_log(process: Any) -> None:
    """A shell labeller drops NUL; tools such as grep -z depend on it."""
    assert execute(process, r"printf 'a\0b\xff\n'").stdout == "a\0b\ufffd\n"


def test_a_followed_log_streams_while_the_command_runs(process: Any) -> None:
    """Lines arrive before the end: the command waits for input that is sent after the first one."""
    started = execute(process, "echo ready; read word; echo got $word", run_async=True)
    heard: list[str] = []

    async def answer_when_ready(chunk: str) -> None:
        heard.append(chunk)
        if chunk == "ready\n":
            await asyncio.to_thread(process.send_session_command_input, "s", started.cmd_id, "this")

    def on_out(chunk: str) -> Any:
        return asyncio.ensure_future(answer_when_ready(chunk))

    async def run() -> None:
        await process.get_session_command_logs_async(
            "s", started.cmd_id, on_out, lambda chunk: None
        )

    asyncio.run(run())

    assert "".join(heard).splitlines() == ["ready", "this", "got this"]
    assert process.get_session_command("s", started.cmd_id).exit_code == 0


def test_a_late_follower_gets_the_log_from_its_start(process: Any) -> None:
    """A client that reconnects can skip what it saw, because the stream replays."""
    started = execute(process, "echo one; echo two >&2", run_async=True)
    until(lambda: process.get_session_command("s", started.cmd_id).exit_code is not None)

    assert follow(process, started.cmd_id) == ("one\n", "two\n")
    assert follow(process, started.cmd_id) == ("one\n", "two\n")


def test_a_running_command_has_no_exit_code(process: Any) -> None:
    """The SDK reads an absent exitCode as still running."""
    started = execute(process, "sleep 1000", run_async=True)

    assert process.get_session_command("s", started.cmd_id).exit_code is None


def test_a_bare_exit_ends_the_session_with_410(process: Any) -> None:
    """The old daemon hung for ever here; a newer one and ours answer."""
    from daytona import DaytonaSessionEndedError

    with pytest.raises(DaytonaSessionEndedError):
        execute(process, "exit 3")
    with pytest.raises(DaytonaSessionEndedError):
        execute(process, "echo more")


def test_exit_in_a_child_shell_is_safe(process: Any) -> None:
    """The wrapping that the skill teaches keeps the session alive."""
    assert execute(process, "bash -c 'exit 3'").exit_code == 3
    assert execute(process, "echo alive").stdout == "alive\n"


def test_a_syntax_error_is_the_commands_own(process: Any) -> None:
    """It fails with a message and the session goes on."""
    failed = execute(process, "if then")

    assert failed.exit_code != 0
    assert "syntax error" in failed.stderr
    assert execute(process, "echo alive").stdout == "alive\n"


def test_deleting_a_session_kills_its_whole_tree_and_ends_its_streams(process: Any) -> None:
    """That is how a client enforces a deadline: nothing of the command may go on."""
    escape = 'python3 -c "import os,time; os.fork() and os._exit(0); os.setsid(); time.sleep(1003)"'
    started = execute(process, f"trap '' TERM; {escape}; echo going; sleep 1004", run_async=True)
    until(lambda: "going" in process.get_session_command_logs("s", started.cmd_id).stdout)

    process.delete_session("s")

    assert process.exec("pgrep -f '100[34]'").result == ""
    assert process.list_sessions() == []


def test_deleting_the_sandbox_ends_every_stream(
    server: LocalServer, process: Any, sandbox: str
) -> None:
    """Whoever follows a log must not wait for a sandbox that is gone."""
    from daytona import DaytonaError

    started = execute(process, "echo ready; sleep 1000", run_async=True)
    heard: list[str] = []

    async def delete_when_ready(chunk: str) -> None:
        heard.append(chunk)
        await asyncio.to_thread(server.request, "DELETE", f"/api/sandbox/{sandbox}")

    async def run() -> None:
        await process.get_session_command_logs_async(
            "s", started.cmd_id, delete_when_ready, heard.append
        )

    with pytest.raises(DaytonaError):  # closed as going away, not as complete
        asyncio.run(run())
    assert heard == ["ready\n"]


def test_a_taken_session_id_is_a_conflict_and_an_unknown_one_not_found(process: Any) -> None:
    """Clients choose ids, so both answers matter."""
    from daytona import DaytonaConflictError, DaytonaNotFoundError

    with pytest.raises(DaytonaConflictError):
        process.create_session("s")
    with pytest.raises(DaytonaNotFoundError):
        process.get_session("t")


def test_input_to_an_ended_command_is_gone(process: Any) -> None:
    """410, not a hang and not a silent success."""
    from daytona import DaytonaGoneError

    started = execute(process, "true", run_async=True)
    until(lambda: process.get_session_command("s", started.cmd_id).exit_code is not None)

    with pytest.raises(DaytonaGoneError):
        process.send_session_command_input("s", started.cmd_id, "late")


def test_ten_megabytes_of_lines_arrive_complete(process: Any) -> None:
    """Framing a line at a time loses nothing at speed."""
    started = execute(process, "seq 1 1300000", run_async=True)

    out, err = follow(process, started.cmd_id)

    assert err == ""
    assert out == "".join(f"{number}\n" for number in range(1, 1_300_001))


def test_logs_of_an_unknown_command_are_404_on_both_ways(
    server: LocalServer, process: Any, sandbox: str
) -> None:
    """Also the WebSocket is refused before it is accepted."""
    path = f"/toolbox/{sandbox}/process/session/s/command/nope/logs"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x" * 22 + "==",
    }

    assert server.request("GET", path).status == 404
    assert server.request("GET", f"{path}?follow=true", headers=upgrade).status == 404


@pytest.mark.parametrize("way", ["session", "stop", "delete"])
def test_a_synchronous_command_whose_session_goes_is_an_error(
    server: LocalServer, way: str
) -> None:
    """An answer without an exit code reads as success to clients."""
    sandbox = server.create()["id"]
    base = f"/toolbox/{sandbox}/process/session"
    assert server.request("POST", base, body={"sessionId": "s"}).status == 201
    command = {"command": "echo begun; sleep 60"}
    with ThreadPoolExecutor(1) as client:
        running = client.submit(server.request, "POST", f"{base}/s/exec", body=command)
        until(lambda: server.request("GET", f"{base}/s").json()["commands"])
        if way == "session":
            server.request("DELETE", f"{base}/s")
        elif way == "stop":
            server.request("POST", f"/api/sandbox/{sandbox}/stop")
        else:
            server.request("DELETE", f"/api/sandbox/{sandbox}")
        reply = running.result(30)

    assert reply.status == (500 if way == "session" else 410)
    server.request("DELETE", f"/api/sandbox/{sandbox}")


def test_a_deleted_session_gives_all_that_it_started_time_to_end(
    server: LocalServer, sandbox: str
) -> None:
    """Not the shell alone: a program that cleans up at SIGTERM comes to its end."""
    base = f"/toolbox/{sandbox}/process/session"
    program = (
        "trap 'sleep 1.5; touch /tmp/cleaned; exit' TERM; echo ready; while :; do sleep 0.1; done"
    )
    command = {"command": f"bash -c {shlex.quote(program)}", "runAsync": True}
    assert server.request("POST", base, body={"sessionId": "s"}).status == 201
    started = server.request("POST", f"{base}/s/exec", body=command).json()["cmdId"]
    logs = f"{base}/s/command/{started}/logs"
    until(lambda: "ready" in server.request("GET", logs).json()["stdout"])
    assert server.request("DELETE", f"{base}/s").status == 204

    assert server.exec(sandbox, "ls /tmp/cleaned")["exitCode"] == 0


def test_signals_do_not_end_the_shell(process: Any) -> None:
    """The daemon's wrapper catches them before each command."""
    for name in ("HUP", "INT", "TERM"):
        assert execute(process, f"kill -{name} $$; echo survived").stdout == "survived\n"


def test_the_wrappers_variables_are_in_each_command(process: Any) -> None:
    """A session's own `dir` or `log` are overwritten there, so here too."""
    execute(process, "dir=mine log=mine sp=mine ip=mine")

    assert "mine" not in execute(process, "echo $dir $log $sp $ip").stdout


def test_a_bare_wait_says_that_it_never_ends_there(process: Any) -> None:
    """It waits for the wrapper's own processes; with a process it is the shell's own."""
    ended = execute(process, "sleep 0.1 & wait")

    assert (ended.exit_code, "name what to wait for" in ended.stderr) == (1, True)
    assert execute(process, "(exit 3) & wait $!").exit_code == 3


def test_the_entrypoints_session_is_not_the_clients(server: LocalServer, sandbox: str) -> None:
    """It may neither be made, nor used, nor deleted."""
    base = f"/toolbox/{sandbox}/process/session"
    refused = [
        server.request("POST", base, body={"sessionId": "entrypoint"}),
        server.request("POST", f"{base}/entrypoint/exec", body={"command": "true"}),
        server.request("POST", f"{base}/entrypoint/command/x/input", body={"data": "x"}),
        server.request("DELETE", f"{base}/entrypoint"),
    ]

    assert [reply.status for reply in refused] == [400] * 4


def test_unknown_ids_have_the_codes_that_the_sdk_knows(server: LocalServer, sandbox: str) -> None:
    """It makes an error class of each; a command in no session is the daemon's 500."""
    base = f"/toolbox/{sandbox}/process/session"
    server.request("POST", base, body={"sessionId": "a/b"})
    again = server.request("POST", base, body={"sessionId": "a/b"})
    replies = [
        server.request("GET", f"{base}/none"),
        server.request("DELETE", f"{base}/none"),
        server.request("GET", f"{base}/a%2Fb/command/none"),
        server.request("POST", f"{base}/a%2Fb/exec", body={"command": ""}),
        server.request("POST", f"{base}/none/exec", body={"command": "true"}),
    ]

    assert (again.status, again.json()["code"]) == (409, "CONFLICT")
    assert [reply.json()["code"] for reply in replies[:3]] == ["PROCESS_NOT_FOUND"] * 3
    assert [reply.status for reply in replies] == [404, 404, 404, 400, 500]


def test_lists_have_no_order(server: LocalServer, sandbox: str) -> None:
    """The daemon lists a map: whoever takes the last for the newest has to notice it here."""
    base = f"/toolbox/{sandbox}/process/session"
    names = [f"s{number}" for number in range(12)]
    for name in names:
        server.request("POST", base, body={"sessionId": name})
    listed = [
        [session["sessionId"] for session in server.request("GET", base).json()] for _ in range(8)
    ]

    assert all(sorted(order) == sorted(names) for order in listed)
    assert len(set(map(tuple, listed))) > 1


def test_logs_are_json_without_a_websocket_and_nothing_without_follow(
    server: LocalServer, process: Any, sandbox: str
) -> None:
    """`follow` and WebSocket belong together; one without the other is no error there."""
    command = execute(process, "echo a").cmd_id
    path = f"/toolbox/{sandbox}/process/session/s/command/{command}/logs"

    async def over_a_websocket() -> int | None:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.ws_connect(server.url + path) as socket,
        ):
            assert [message async for message in socket] == []
            return socket.close_code

    assert server.request("GET", f"{path}?follow=true").json()["stdout"] == "a\n"
    assert asyncio.run(over_a_websocket()) == 1000


def test_input_reaches_a_command_that_waits_its_turn(process: Any) -> None:
    """The daemon has not made its pipe yet, and answers 500."""
    execute(process, "sleep 0.5", run_async=True)
    waiting = execute(process, "read line; echo got $line", run_async=True).cmd_id
    process.send_session_command_input("s", waiting, "early")

    assert until(lambda: "got early" in process.get_session_command_logs("s", waiting).stdout)
