"""A sandbox whose pid 1 is the attacker's: the server survives and gives nothing away.

Other sandboxes notice nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local_daytona.isolation.usage import all_processes, families
from tests.local_daytona.pulse import pulse
from tests.local_server import (
    SCRIPTS,
    LocalServer,
    host_processes_of,
    is_alive,
    new_state_dir,
    until,
    wait_for_server,
)

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent
DESCRIPTORS = (
    "device",
    "folder",
    "procfs",
    "pipe",
    "unix socket",
    "memory file",
    "fifo",
    "path only",
    "write only",
    "listening socket",
    "two files",
    "none",
)
FILE_ANSWERS = (
    "nothing",
    "endless error",
    "enormous error",
    "null error",
    "number",
    "list",
    "deep",
    "half a letter",
    "not a number",
)
LAUNCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from local_daytona import engine
engine.install_agent = lambda installed, python: Path(sys.argv[2])
from local_daytona.commands import main
raise SystemExit(main(["serve", "--state-dir", sys.argv[3]]))
"""


@pytest.fixture(scope="module")
def hostile_agent() -> Iterator[Path]:
    """The agent's folder with the hostile one in front."""
    folder = Path(tempfile.mkdtemp(prefix="local-daytona-hostile-"))
    folder.chmod(0o755)
    agent = folder / "agent"
    shutil.copytree(
        SCRIPTS / "local_daytona" / "isolation" / "agent",
        agent,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (agent / "__main__.py").rename(agent / "honest.py")
    shutil.copy(HERE / "hostile_agent.py", agent / "__main__.py")
    yield agent
    shutil.rmtree(folder)


@contextlib.contextmanager
def server_with(agent: Path, state: Path) -> Iterator[LocalServer]:
    """A server whose sandboxes run that agent."""
    state.mkdir(exist_ok=True)
    with open(state / "server.log", "ab") as log:
        command = [sys.executable, "-c", LAUNCH, str(SCRIPTS), str(agent), str(state)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield wait_for_server(state, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def attacked(hostile_agent: Path) -> Iterator[LocalServer]:
    with server_with(hostile_agent, new_state_dir()) as running:
        yield running


@pytest.fixture(autouse=True)
def no_exception_of_the_servers(attacked: LocalServer) -> Iterator[None]:
    """Whatever an agent says was expected."""
    before = len(log_of(attacked))
    yield
    assert "Traceback" not in log_of(attacked)[before:]


@pytest.fixture
def neighbour(attacked: LocalServer) -> Iterator[str]:
    """A second sandbox, which must go on working."""
    created = attacked.create()
    yield created["id"]
    assert attacked.exec(created["id"], "echo fine")["result"] == "fine\n"
    attacked.request("DELETE", f"/api/sandbox/{created['id']}")


@contextlib.contextmanager
def turned(server: LocalServer, order: str) -> Iterator[str]:
    """A sandbox whose pid 1 begins to obey the attacker; it can be deleted all the same."""
    created = server.create()
    server.exec(created["id"], f"printf '%s' '{order}' > /home/daytona/evil")
    yield created["id"]
    until(
        lambda: server.request("DELETE", f"/api/sandbox/{created['id']}").status in (200, 404)
    )  # 409 while it still ends by itself
    assert host_processes_of(server.state_dir / "sandboxes" / created["id"]) == []


def answers(server: LocalServer, sandbox_id: str) -> list[int]:
    """The statuses of one request of each kind; a command that is never run ends by its timeout."""
    requests: list[tuple[str, str, Any]] = [
        ("GET", "files/download?path=/etc/passwd", None),
        ("POST", "files/bulk-download", {"paths": ["/etc/passwd"]}),
        ("GET", "files?path=/", None),
        ("POST", "process/session", {"sessionId": "one"}),
        ("POST", "process/execute", {"command": "echo hello", "timeout": 3}),
    ]
    found = []
    for method, path, body in requests:
        reply = server.request(method, f"/toolbox/{sandbox_id}/{path}", body=body)
        found.append(reply.status)
        if reply.headers.get("Content-Type", "").startswith("application/json"):
            json.loads(reply.body)
    return found


def log_of(server: LocalServer) -> str:
    return (server.state_dir / "server.log").read_text()


def descriptors(server: LocalServer) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@pytest.mark.parametrize("order", DESCRIPTORS)
def test_descriptors_of_another_kind_are_refused(
    attacked: LocalServer, neighbour: str, order: str
) -> None:
    """What the server would read or hand out is checked in the kernel's words, not the agent's."""
    before = descriptors(attacked)
    with turned(attacked, order) as sandbox_id:
        replies = [
            attacked.request("GET", f"/toolbox/{sandbox_id}/files/download?path=/etc/passwd")
            for _ in range(5)
        ]
        answers(attacked, sandbox_id)
        bulk = attacked.request(
            "POST", f"/toolbox/{sandbox_id}/files/bulk-download", body={"paths": ["/etc/passwd"]}
        )

    assert all(b"root:" not in reply.body and b"daytona:" not in reply.body for reply in replies)
    assert b"daytona:" not in bulk.body
    until(lambda: descriptors(attacked) <= before + 4)


@pytest.mark.parametrize(
    "order",
    [
        "bytes",
        "number",
        "deep",
        "long",
        "unknown exit",
        "odd exit",
        "infinite exit",
        "unhashable id",
        "infinite error",
    ],
)
def test_messages_that_make_no_sense_end_at_most_their_own_sandbox(
    attacked: LocalServer, neighbour: str, order: str
) -> None:
    """No exception of the server's, no hang: each request is answered."""
    with turned(attacked, order) as sandbox_id:
        statuses = answers(attacked, sandbox_id)

    assert is_alive(attacked.pid)
    assert 500 not in statuses, statuses


@pytest.mark.parametrize("answer", FILE_ANSWERS)
def test_file_operations_with_senseless_answers_fail_for_their_caller_only(
    attacked: LocalServer, neighbour: str, answer: str
) -> None:
    """A file operation's answer comes from inside too: callers get JSON, never a server failure."""
    requests: list[tuple[str, str, Any]] = [
        ("GET", "files?path=/", None),
        ("GET", "files/info?path=/", None),
        ("GET", "files/find?path=/tmp&pattern=x", None),
        ("GET", "files/search?path=/tmp&pattern=x", None),
        ("POST", "files/folder?path=/tmp/x&mode=755", None),
        ("POST", "files/replace", {"files": ["/tmp/x"], "pattern": "x", "newValue": "y"}),
        ("DELETE", "files?path=/tmp/x", None),
        ("POST", "files/move?source=/tmp/x&destination=/tmp/y", None),
        ("GET", "git/status?path=/tmp", None),
        ("POST", "files/permissions?path=/tmp/x&mode=755", None),
    ]
    with turned(attacked, f"file {answer}") as sandbox_id:
        replies = [
            attacked.request(method, f"/toolbox/{sandbox_id}/{path}", body=body)
            for method, path, body in requests
        ]

    assert {
        (path, reply.body)
        for (_, path, _), reply in zip(requests, replies, strict=True)
        if b"its log has the reason" in reply.body
    } == set()
    assert all(json.loads(reply.body) is not Ellipsis for reply in replies if reply.body)


def test_answers_that_nobody_waits_for_end_the_sandbox(
    attacked: LocalServer, neighbour: str
) -> None:
    """Answers sent twice, of another number or too early: no caller gets another's.

    Their descriptors are closed.
    """
    before = descriptors(attacked)
    with turned(attacked, "twice") as sandbox_id:
        statuses = answers(attacked, sandbox_id)

    assert set(statuses) <= {200, 201, 400, 404, 410}
    assert statuses[-1] in (400, 410)
    until(lambda: descriptors(attacked) <= before + 4)


def test_an_answer_that_comes_after_the_deletion_reaches_nobody(
    attacked: LocalServer, neighbour: str
) -> None:
    """Who waited is told that it is gone; a child that still holds the control socket is killed."""
    before = descriptors(attacked)
    with turned(attacked, "late") as sandbox_id, ThreadPoolExecutor() as clients:
        waiting = clients.submit(
            attacked.request, "GET", f"/toolbox/{sandbox_id}/files/download?path=/etc/passwd"
        )
        time.sleep(0.3)
        assert attacked.request("DELETE", f"/api/sandbox/{sandbox_id}").status == 200
        status = waiting.result().status

    assert status in (404, 410)
    until(lambda: descriptors(attacked) <= before + 4)


def test_a_flood_of_descriptors_fills_no_table(attacked: LocalServer, neighbour: str) -> None:
    """Each message may bring four; they are closed before the next is read."""
    before = descriptors(attacked)
    with turned(attacked, "flood with files") as sandbox_id, ThreadPoolExecutor() as clients:
        clients.submit(
            attacked.request, "GET", f"/toolbox/{sandbox_id}/files/download?path=/etc/passwd"
        )
        most = max(descriptors(attacked) for _ in range(200))
        assert attacked.exec(neighbour, "echo here")["result"] == "here\n"
        attacked.request("DELETE", f"/api/sandbox/{sandbox_id}")

    assert most < before + 40


@pytest.mark.parametrize("value", ['"x"', "1e999", "null", "[]", "true"])
def test_values_of_another_type_are_refused(
    attacked: LocalServer, neighbour: str, value: str
) -> None:
    """A process number is a whole number or the sandbox is gone."""
    with turned(attacked, f"pid {value}") as sandbox_id:
        status = attacked.request(
            "POST", f"/toolbox/{sandbox_id}/process/execute", body={"command": "true"}
        ).status

    assert status == 410


def test_a_flood_of_messages_keeps_nobody_else_waiting(
    attacked: LocalServer, neighbour: str
) -> None:
    """The server reads one message a turn, and the flooding sandbox can be ended."""
    with (
        turned(attacked, "flood") as sandbox_id,
        socket.create_connection(("127.0.0.1", int(attacked.url.rpartition(":")[2]))) as raw,
    ):
        body = b'{"command": "true"}'
        head = (
            f"POST /toolbox/{sandbox_id}/process/execute HTTP/1.1\r\n"
            f"Host: {attacked.url[7:]}\r\n"
            f"Authorization: Bearer {attacked.api_key}\r\n"
        )
        raw.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        seen = [attacked.exec(neighbour, f"echo {number}")["result"] for number in range(20)]

    assert seen == [f"{number}\n" for number in range(20)]


LONGEST_PAUSE_S = 2.0  # of a loaded machine; what waited for the attacker waited for minutes


@pytest.mark.parametrize(
    "order", ["lingering sockets", "lingering in an event", "lingering in the queue"]
)
def test_closing_what_an_agent_sent_holds_nobody_else(
    attacked: LocalServer, neighbour: str, order: str
) -> None:
    """The kernel makes the last close of such a socket wait for as long as the attacker says."""
    with pulse(attacked) as waited, turned(attacked, order) as sandbox_id:
        answers(attacked, sandbox_id)
        until(lambda: waited.number > 3)

    assert waited.longest < LONGEST_PAUSE_S


def test_a_terminal_whose_agent_makes_it_block_holds_nobody_else(
    attacked: LocalServer, neighbour: str
) -> None:
    """O_NONBLOCK is the description's, which the agent shares: its sandbox ends for the wait."""
    with pulse(attacked) as waited, turned(attacked, "blocking") as sandbox_id:
        made = attacked.request(
            "POST", f"/toolbox/{sandbox_id}/process/pty", body={"id": "one", "cols": 80, "rows": 24}
        )

        def has_ended() -> bool:
            """A new size makes the shell write, and the server read until nothing is left."""
            resize = f"/toolbox/{sandbox_id}/process/pty/one/resize"
            size = {"cols": 40 + time.monotonic_ns() % 60, "rows": 24}
            attacked.request("POST", resize, body=size)
            return (attacked.get(sandbox_id) or {}).get("state") != "started"

        until(has_ended)

    assert made.status in (200, 201, 400, 410), made.body
    assert waited.longest < LONGEST_PAUSE_S
    assert "made this server wait" in log_of(attacked)


def test_pipes_whose_agent_makes_them_block_are_this_servers_own(
    attacked: LocalServer, neighbour: str
) -> None:
    """They are opened again, so that nobody shares how: the session works."""
    with pulse(attacked) as waited, turned(attacked, "blocking") as sandbox_id:
        session = f"/toolbox/{sandbox_id}/process/session"
        assert attacked.request("POST", session, body={"sessionId": "s"}).status == 201
        done = attacked.request("POST", f"{session}/s/exec", body={"command": "echo here"})

    assert done.json()["exitCode"] == 0
    assert waited.longest < LONGEST_PAUSE_S


def test_an_agent_that_says_nothing_costs_its_caller_a_timeout(
    attacked: LocalServer, neighbour: str
) -> None:
    """Every request to a sandbox has an end."""
    with turned(attacked, "silent") as sandbox_id:
        reply = attacked.request(
            "POST", f"/toolbox/{sandbox_id}/process/execute", body={"command": "true"}
        )

    assert (reply.status, "does not answer" in reply.json()["message"]) == (410, True)


def test_an_agent_that_ignores_the_end_of_its_socket_is_killed(
    attacked: LocalServer, neighbour: str
) -> None:
    """`turned` looks that nothing is left after the deletion."""
    with turned(attacked, "deaf") as sandbox_id:
        assert attacked.exec(sandbox_id, "echo still")["result"] == "still\n"


def test_a_deaf_agent_of_a_killed_server_is_ended_by_the_next(hostile_agent: Path) -> None:
    """It outlives its server, but not the next start."""
    state = new_state_dir()
    with server_with(hostile_agent, state) as first:
        sandbox_id = first.create()["id"]
        first.exec(
            sandbox_id, "echo deaf > /home/daytona/evil; sleep 600 >/dev/null 2>&1 </dev/null &"
        )
        (monitor,) = host_processes_of(state / "sandboxes" / sandbox_id)
        family = families(all_processes(), [monitor])[monitor]
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: not is_alive(first.pid))
        outlived = [is_alive(pid) for pid in family]
    with server_with(hostile_agent, state) as second:
        gone = [not is_alive(pid) for pid in family]
        kept = second.get(sandbox_id)

    assert len(family) >= 3
    assert outlived == [True] * len(family)
    assert gone == [True] * len(family)
    assert kept is not None
    assert kept["state"] == "stopped"


def test_the_hostile_agent_can_do_what_it_says(attacked: LocalServer) -> None:
    """Without orders it is the real agent: what fails above fails for its orders."""
    created = attacked.create()
    before = attacked.exec(created["id"], "echo hello")["result"]
    attacked.exec(created["id"], "echo silent-but-unknown > /home/daytona/evil")
    after = answers(attacked, created["id"])
    attacked.request("DELETE", f"/api/sandbox/{created['id']}")

    assert before == "hello\n"
    assert after[-1] == 200
