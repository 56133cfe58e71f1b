"""Declarative builds: carried out in a sandbox, logs streamed; refused or failed with a fix."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from daytona import (
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    CreateSnapshotParams,
    Daytona,
    DaytonaConfig,
    DaytonaError,
    Image,
    Resources,
    SessionExecuteRequest,
)

from tests.local_server import SCRIPTS, LocalServer, running_server, until, wait_for_server

FINISHED = ("started", "build_failed", "error")


def build(server: LocalServer, dockerfile: str, **fields: Any) -> dict[str, Any]:
    """Create by build and wait for its end; the sandbox as JSON."""
    created = server.create(buildInfo={"dockerfileContent": dockerfile}, **fields)
    found: dict[str, Any] = until(lambda: finished(server, created["id"]))
    return found


def finished(server: LocalServer, sandbox_id: str) -> dict[str, Any] | None:
    sandbox = server.get(sandbox_id)
    return sandbox if sandbox is None or sandbox["state"] in FINISHED else None


def delete(server: LocalServer, *sandboxes: dict[str, Any]) -> None:
    for sandbox in sandboxes:
        assert server.request("DELETE", f"/api/sandbox/{sandbox['id']}").status == 200


def test_the_sdks_image_builder_makes_a_sandbox_and_streams_its_log(sdk: Daytona) -> None:
    """run_commands, env and workdir as the SDK writes them; the callback hears the build."""
    image = (
        Image.base("daytona-small")
        .env({"GREETING": "hello world"})
        .workdir("/home/daytona/app")
        .run_commands("echo $GREETING > made", "pwd")
    )
    heard: list[str] = []
    sandbox = sdk.create(
        CreateSandboxFromImageParams(image=image, resources=Resources(cpu=2, memory=4, disk=8)),
        timeout=120,
        on_snapshot_create_logs=heard.append,
    )

    assert sandbox.process.exec("cat made; echo $GREETING").result == "hello world\nhello world\n"
    assert (sandbox.cpu, sandbox.memory, sandbox.disk) == (2, 4, 8)
    assert "/home/daytona/app" in "\n".join(heard)
    sandbox.delete(timeout=60)


def test_a_snapshot_is_built_and_started_from(sdk: Daytona) -> None:
    """Its files and its variables are there; a sandbox's own variables win."""
    heard: list[str] = []
    image = (
        Image.base("daytona-medium")
        .env({"A": "image", "B": "image"})
        .run_commands("echo built > /opt/file")
    )
    made = sdk.snapshot.create(
        CreateSnapshotParams(name="built", image=image), on_logs=heard.append
    )
    sandbox = sdk.create(CreateSandboxFromSnapshotParams(snapshot="built", env_vars={"B": "own"}))

    assert made.state == "active"
    assert made.mem == 4
    assert any("Created snapshot built" in line for line in heard)
    assert sandbox.process.exec("cat /opt/file; echo $A $B").result == "built\nimage own\n"
    sandbox.delete(timeout=60)
    sdk.snapshot.delete("built")


def test_the_last_workdir_is_where_everything_in_the_sandbox_begins(sdk: Daytona) -> None:
    """Commands, code, sessions, interpreters, files, git; in its snapshots and after a restart."""
    sandbox = sdk.create(
        CreateSandboxFromImageParams(image=Image.base("daytona-small").workdir("/opt/app")),
        timeout=120,
    )
    sandbox.process.create_session("s")
    sandbox.fs.upload_file(b"x", "f")
    sandbox.git.init("repo")
    where = [
        sandbox.get_work_dir(),
        sandbox.process.exec("pwd").result,
        sandbox.process.code_run("import os; print(os.getcwd())").result,
        sandbox.process.execute_session_command("s", SessionExecuteRequest(command="pwd")).stdout,
        sandbox.code_interpreter.run_code("import os; print(os.getcwd())").stdout,
    ]
    found = [file.name for file in sandbox.fs.list_files(".")]
    sandbox.create_snapshot("with-workdir")
    second = sdk.create(CreateSandboxFromSnapshotParams(snapshot="with-workdir"))
    second.stop(timeout=60)
    second.start(timeout=60)

    assert [str(path).strip() for path in where] == ["/opt/app"] * 5
    assert sorted(found) == ["f", "repo"]
    assert sandbox.get_user_home_dir() == "/home/daytona"
    assert second.process.exec("pwd; ls").result == "/opt/app\nf\nrepo\n"
    for one in (sandbox, second):
        one.delete(timeout=60)
    sdk.snapshot.delete("with-workdir")


def test_an_entrypoint_runs_in_a_session_of_its_own_whose_log_is_read_and_followed(
    sdk: Daytona,
) -> None:
    """At every start, not while it is built; the sandbox starts also when the program cannot."""
    image = Image.base("daytona-small").entrypoint(
        ["sh", "-c", "echo begun; echo bad >&2; echo x >> runs; exit 3"]
    )
    sandbox = sdk.create(CreateSandboxFromImageParams(image=image), timeout=120)
    until(lambda: sandbox.process.get_entrypoint_session().commands[0].exit_code is not None)
    logs, followed = sandbox.process.get_entrypoint_logs(), list[str]()
    asyncio.run(sandbox.process.get_entrypoint_logs_async(followed.append, followed.append))
    code, listed = (
        sandbox.process.get_entrypoint_session().commands[0].exit_code,
        sandbox.process.list_sessions(),
    )
    sandbox.stop(timeout=60)
    sandbox.start(timeout=60)
    until(lambda: sandbox.process.exec("cat runs").result == "x\nx\n")
    broken = sdk.create(
        CreateSandboxFromImageParams(image=Image.base("daytona-small").entrypoint(["/no/such"])),
        timeout=120,
    )

    assert (logs.stdout, logs.stderr, code, listed) == ("begun\n", "bad\n", 3, [])
    assert sorted(followed) == ["bad\n", "begun\n"]
    assert broken.process.exec("echo works").result == "works\n"
    for one in (sandbox, broken):
        one.delete(timeout=60)


def test_an_image_name_is_a_build_of_nothing(sdk: Daytona) -> None:
    """image= takes the name of a snapshot, for a sandbox and for a snapshot."""
    made = sdk.snapshot.create(
        CreateSnapshotParams(name="copied", image="daytona-large", entrypoint=["sleep", "1"])
    )
    sandbox = sdk.create(CreateSandboxFromImageParams(image="copied"), timeout=120)

    assert (made.state, made.entrypoint, made.cpu) == ("active", ["sleep", "1"], 4)
    assert sandbox.process.exec("echo works").result == "works\n"
    sandbox.delete(timeout=60)
    sdk.snapshot.delete("copied")


def test_the_async_client_builds_too(server: LocalServer) -> None:
    """Its log stream is another implementation."""
    heard: list[str] = []

    async def run() -> None:
        async with AsyncDaytona(
            DaytonaConfig(api_key=server.api_key, api_url=server.api_url)
        ) as daytona:
            image = Image.base("daytona-small").run_commands(
                "echo step one", "sleep 1; echo step two"
            )
            sandbox = await daytona.create(
                CreateSandboxFromImageParams(image=image),
                timeout=120,
                on_snapshot_create_logs=heard.append,
            )
            await sandbox.delete()

    asyncio.run(run())
    assert "step two" in "\n".join(heard)


def test_a_build_that_waits_streams_what_it_says_at_once_and_ends_with_it(
    server: LocalServer,
) -> None:
    """Followed, the body ends when the build does; without follow it is what there is."""
    dockerfile = "FROM daytona-small\nRUN echo early; while [ ! -e /tmp/go ]; do sleep 0.1; done\n"
    created = server.create(buildInfo={"dockerfileContent": dockerfile})
    url = until(
        lambda: server.request("GET", f"/api/sandbox/{created['id']}/build-logs-url")
    ).json()["url"]
    path = urlsplit(url).path
    assert created["state"] == "pending_build"
    assert urlsplit(url).query == ""
    until(lambda: b"early" in server.request("GET", path).body)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request(
            "GET", f"{path}?follow=true", headers={"Authorization": f"Bearer {server.api_key}"}
        )
        answer = connection.getresponse()
        seen = b""
        while b"early\n" not in seen:
            seen += answer.read1()
        delete(server, created)
        rest = answer.read()

    assert answer.getheader("Transfer-Encoding") == "chunked"
    assert answer.getheader("Content-Type", "").startswith("text/plain")
    assert b"the build was stopped" in rest
    assert server.get(created["id"]) is None


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM python:3.12\n", "start --image python:3.12"),
        ("", "must begin with a FROM"),
        ("RUN x\n", "must begin with a FROM"),
        ("FROM scratch\n", "cannot pull the image scratch"),
        (f"FROM daytona-small\n#{'x' * 300_000}", "larger than"),
    ],
    ids=["image", "empty", "no from", "scratch", "huge"],
)
def test_what_cannot_be_begun_is_refused_at_the_post(
    server: LocalServer, dockerfile: str, words: str
) -> None:
    """Nothing is made, and the message names the snapshots or the flag."""
    before = len(server.sandboxes())
    for path, more in (("/api/sandbox", {}), ("/api/snapshots", {"name": "never"})):
        reply = server.request(
            "POST", path, body={"buildInfo": {"dockerfileContent": dockerfile}, **more}
        )
        assert reply.status == 400
        assert words in reply.json()["message"]
    assert len(server.sandboxes()) == before
    assert server.request("GET", "/api/snapshots/never").status == 404


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("COPY . /app", "line 3: COPY . /app: local Daytona takes no build contexts"),
        ("RUN echo oh no; exit 3", "line 3: RUN echo oh no; exit 3: exit code 3"),
        ("RUN kill -9 $$", "exit code 137"),
        ('RUN ["/no/such/program"]', "No such file"),
        (
            "WORKDIR /usr/app",
            (
                "line 3: WORKDIR /usr/app: it cannot be made; "
                "a sandbox of local Daytona has folders of its own in /home/daytona"
            ),
        ),
        ("RUN apt-get update", "exit code 100"),
        ("USER postgres", "one user"),
        ("ENV broken", "NAME=value"),
        ("RUN \x00", "line 3"),
    ],
)
def test_a_line_that_fails_ends_in_build_failed_with_its_number(
    server: LocalServer, line: str, reason: str
) -> None:
    """The sandbox stays as the record of it, can be deleted, and has no storage."""
    sandbox = build(server, f"FROM daytona-small\nRUN true\n{line}\nRUN echo never > /tmp/x\n")

    assert sandbox["state"] == "build_failed"
    assert reason in sandbox["errorReason"]
    assert not (server.state_dir / "sandboxes" / sandbox["id"]).exists()
    log = server.request(
        "GET", f"/api/sandbox/{sandbox['id']}/build-logs?follow=true"
    ).body.decode()
    assert reason in log
    assert server.request("POST", f"/api/sandbox/{sandbox['id']}/start").status == 400
    delete(server, sandbox)
    assert not (server.state_dir / "builds" / sandbox["id"]).exists()


def test_the_sdk_raises_the_reason_of_a_failed_snapshot(sdk: Daytona) -> None:
    """And the failed snapshot starts nothing."""
    with pytest.raises(DaytonaError, match="line 2: RUN exit 4: exit code 4"):
        sdk.snapshot.create(
            CreateSnapshotParams(
                name="failing", image=Image.base("daytona-small").run_commands("exit 4")
            )
        )
    with pytest.raises(DaytonaError, match="build_failed"):
        sdk.create(CreateSandboxFromSnapshotParams(snapshot="failing"))
    sdk.snapshot.delete("failing")


def test_contexts_and_sizes_beyond_the_largest_are_refused(server: LocalServer) -> None:
    """501 names upload_file; 400 the limit; snapshot and buildInfo exclude each other."""
    info = {"dockerfileContent": "FROM daytona-small\n"}
    for fields, status in (
        ({"buildInfo": {**info, "contextHashes": ["a"]}}, 501),
        ({"buildInfo": info, "cpu": 64}, 400),
        ({"buildInfo": info, "disk": 11}, 400),
        ({"buildInfo": info, "snapshot": "daytona-small"}, 400),
        ({"buildInfo": "text"}, 400),
        ({"buildInfo": {}}, 400),
    ):
        assert server.request("POST", "/api/sandbox", body=fields).status == status
    assert server.request("GET", "/api/object-storage/push-access").status == 501
    sandbox = server.create()
    assert server.request("GET", f"/api/sandbox/{sandbox['id']}/build-logs-url").status == 404
    delete(server, sandbox)


def test_what_a_step_leaves_running_ends_with_it(server: LocalServer) -> None:
    """A daemon of a RUN neither hangs the build nor runs in the sandbox."""
    sandbox = build(server, "FROM daytona-small\nRUN (setsid sleep 987 &) ; sleep 987 & true\n")

    assert sandbox["state"] == "started"
    assert "sleep" not in server.exec(sandbox["id"], "cat /proc/[0-9]*/comm")["result"]
    delete(server, sandbox)


def has_begun(server: LocalServer, log: str) -> bool:
    """The program's own line is there, beside the one that names its command."""
    return b"begun" in server.request("GET", log).body.replace(b"echo begun", b"")


def test_a_build_cut_off_by_a_crash_has_failed_and_leaves_no_storage(state_dir: Path) -> None:
    """An acknowledged build is not forgotten, and not taken for a success."""
    info = {"dockerfileContent": "FROM daytona-small\nRUN echo begun; sleep 600\n"}
    with running_server(state_dir) as server:
        sandbox = server.create(buildInfo=info)
        snapshot = server.request(
            "POST", "/api/snapshots", body={"name": "cut", "buildInfo": info}
        ).json()
        for path in (
            f"/api/sandbox/{sandbox['id']}/build-logs",
            f"/api/snapshots/{snapshot['id']}/build-logs",
        ):
            until(lambda path=path: has_begun(server, path))
        os.kill(server.pid, 9)
    with running_server(state_dir) as server:
        for found in (
            server.get(sandbox["id"]),
            server.request("GET", "/api/snapshots/cut").json(),
        ):
            assert found is not None
            assert (found["state"], "ended while it was built" in found["errorReason"]) == (
                "build_failed",
                True,
            )
        assert list((state_dir / "sandboxes").iterdir()) == []
        assert list((state_dir / "snapshots").iterdir()) == []


@pytest.mark.parametrize(("served", "status"), [("python:3.12-slim", 400), ("*", 200)])
def test_an_operator_may_serve_an_image_name_as_this_machines_system(
    state_dir: Path, served: str, status: int
) -> None:
    """`serve --image` is shown by status, and FROM that name, or every one, builds."""
    state_dir.mkdir()
    command = [
        sys.executable,
        str(SCRIPTS / "local_daytona"),
        "serve",
        "--state-dir",
        str(state_dir),
        "--image",
        served,
    ]
    with (state_dir / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        server = wait_for_server(state_dir, process)
        assert server.status()["images"] == [served]
        sandbox = build(server, "FROM docker.io/library/python:3.12-slim\nRUN python3 --version\n")
        assert sandbox["state"] == "started"
        other = server.request(
            "POST",
            "/api/sandbox",
            body={"buildInfo": {"dockerfileContent": "FROM python:3.13\n"}},
        ).status
        assert other == status
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_failed_build_tells_its_reason(server: LocalServer, sdk: Daytona) -> None:
    """Whoever waits is told by a look at the sandbox, which has the reason, and not by an event."""
    image = Image.base("daytona-small").run_commands("exit 7")
    name = f"fails-{uuid.uuid4().hex}"
    with pytest.raises(DaytonaError, match=r"error reason: .*7"):
        sdk.create(CreateSandboxFromImageParams(name=name, image=image), timeout=60)
    failed = server.request("GET", f"/api/sandbox/{name}").json()
    delete(server, failed)

    assert (failed["state"], failed["desiredState"]) == ("build_failed", "started")
