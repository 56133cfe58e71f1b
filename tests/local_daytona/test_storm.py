"""Requests that meet in the wrong moment: no 500, no hang, and nothing that cannot be deleted."""

from __future__ import annotations

import functools
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer, Reply, host_processes_of, running_server, until

NAMES = ("a", "b", "c")
CLIENTS = 8
SECONDS = 20.0
BUILD = {"dockerfileContent": 'FROM daytona-small\nRUN sleep 0.3\nENTRYPOINT ["sleep", "9"]\n'}
Call = tuple[str, str, Any]


CREATES: tuple[dict[str, Any], ...] = (
    {},
    {"autoDeleteInterval": 0},
    {"buildInfo": BUILD},
    {"snapshot": "snap"},
    {"volumes": [{"volumeId": "v", "mountPath": "/mnt/v"}]},
)
# {sandbox}, {toolbox} and {session} stand for the paths of the sandbox that is called.
CALLS: tuple[Call, ...] = (
    ("POST", "{sandbox}/start", None),
    ("POST", "{sandbox}/stop", None),
    ("POST", "{sandbox}/archive", None),
    ("POST", "{sandbox}/recover", None),
    ("POST", "{sandbox}/resize", {"cpu": 2}),
    ("POST", "{sandbox}/snapshot", {"name": "snap"}),
    ("POST", "{sandbox}/network-settings", {"networkBlockAll": True}),
    ("POST", "{sandbox}/public/true", None),
    ("DELETE", "{sandbox}", None),
    ("GET", "{sandbox}/build-logs?follow=true", None),
    ("GET", "{sandbox}/ports/8000/signed-preview-url", None),
    ("POST", "{toolbox}/process/execute", {"command": "sleep 0.2"}),
    ("POST", "{toolbox}/process/code-run", {"code": "print(1)"}),
    ("POST", "{session}", {"sessionId": "s"}),
    ("POST", "{session}/s/exec", {"command": "sleep 0.2"}),
    ("DELETE", "{session}/s", None),
    ("POST", "{toolbox}/process/pty", {"id": "p"}),
    ("DELETE", "{toolbox}/process/pty/p", None),
    ("POST", "{toolbox}/process/interpreter/context", {}),
    ("GET", "{toolbox}/files?path=.", None),
    ("POST", "{toolbox}/git/init", {"path": "r"}),
    ("GET", "/api/sandbox", None),
    ("DELETE", "/api/snapshots/snap", None),
    ("POST", "/api/volumes", {"name": "v"}),
)


def is_a_failure(reply: Reply) -> bool:
    """The daemon has 500s of its own, with their reason."""
    is_the_daemons = reply.status == 500 and b"local Daytona failed" not in reply.body
    return reply.status >= 500 and reply.status != 501 and not is_the_daemons


def calls(name: str) -> list[Call]:
    """What may happen to one sandbox, with likely values: only the order is to be strange."""
    places = {
        "sandbox": f"/api/sandbox/{name}",
        "toolbox": f"/toolbox/{name}",
        "session": f"/toolbox/{name}/process/session",
    }
    made: list[Call] = [("POST", "/api/sandbox", {"name": name, **fields}) for fields in CREATES]
    return [*made, *((method, path.format(**places), body) for method, path, body in CALLS)]


def storm(server: LocalServer, seed: int) -> list[str]:
    """One client's share; what it was answered that no client should be."""
    dice, bad, end = random.Random(seed), list[str](), time.monotonic() + SECONDS
    while time.monotonic() < end:
        method, path, body = dice.choice(calls(dice.choice(NAMES)))
        reply = server.request(method, path, body=body)  # fails by itself after a minute
        if is_a_failure(reply):
            bad.append(f"{method} {path} {body} -> {reply.status} {reply.body[:200]!r}")
    return bad


def open_files(server: LocalServer) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@pytest.mark.thorough
def test_eight_clients_at_three_sandboxes_leave_nothing_behind(state_dir: Path) -> None:
    """Every race of create, build, stop, snapshot, session and delete ends clean.

    No process, no descriptor, no traceback is left.
    """
    with running_server(state_dir) as server:
        before = open_files(server)
        with ThreadPoolExecutor(CLIENTS) as pool:
            bad = [
                line
                for lines in pool.map(lambda seed: storm(server, seed), range(CLIENTS))
                for line in lines
            ]
        for name in NAMES:
            until(lambda name=name: server.request("DELETE", f"/api/sandbox/{name}").status == 404)
        until(
            lambda: open_files(server) <= before + 8
        )  # its database, sockets that wait for a next request

        assert bad == []
        until(lambda: host_processes_of(state_dir) == [])
    assert "Traceback" not in (state_dir / "server.log").read_text()


def is_gone(server: LocalServer, path: str) -> bool:
    return server.request("DELETE", path).status == 404


def test_a_build_that_two_requests_delete_at_once_is_gone(server: LocalServer) -> None:
    """The second does not cut off the first one's cleaning up.

    One that comes before the build has begun finds something to end.
    """
    for wait_s in (0.0, 0.3):
        sandbox = server.create(
            buildInfo={"dockerfileContent": "FROM daytona-small\nRUN sleep 60\n"}
        )["id"]
        path = f"/api/sandbox/{sandbox}"
        time.sleep(wait_s)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(functools.partial(server.request, "DELETE"), [path] * 4))

        assert {answer.status for answer in answers} <= {200, 404, 409}
        until(functools.partial(is_gone, server, path))


def test_a_sandbox_that_is_being_built_takes_no_commands(server: LocalServer) -> None:
    """What runs there is the build; the answer is that of every sandbox that is not started."""
    build = {"dockerfileContent": "FROM daytona-small\nRUN sleep 60\n"}
    sandbox = server.create(buildInfo=build)["id"]
    until(lambda: (server.get(sandbox) or {})["state"] == "building_snapshot")
    time.sleep(0.5)
    reply = server.request("POST", f"/toolbox/{sandbox}/process/execute", body={"command": "true"})
    server.request("DELETE", f"/api/sandbox/{sandbox}")

    assert reply.status == 400
    assert "Is the Sandbox started?" in reply.json()["message"]


def test_a_session_that_is_deleted_while_it_opens_or_runs_ends_in_an_answer(
    server: LocalServer, sandbox: str
) -> None:
    """201, 404, 409, 410, a result, or the daemon's 500 of a session that is not there."""
    session = f"/toolbox/{sandbox}/process/session"
    every: list[Call] = [
        ("POST", session, {"sessionId": "s"}),
        ("POST", f"{session}/s/exec", {"command": "sleep 0.05"}),
        ("DELETE", f"{session}/s", None),
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        replies = list(
            pool.map(lambda call: server.request(call[0], call[1], body=call[2]), every * 50)
        )
    failed = {reply.json()["message"] for reply in replies if reply.status == 500}

    assert {reply.status for reply in replies} <= {200, 201, 204, 404, 409, 410, 500}
    assert failed <= {
        "failed to execute command: session not found",
        "failed to execute command: session cancelled",
    }
