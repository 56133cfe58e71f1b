"""exec and code_run against the real server: the daemon's semantics, warts included."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.local_server import LocalServer


def test_exec_merges_the_streams_and_passes_the_exit_code(
    server: LocalServer, sandbox: str
) -> None:
    """Scripts rely on one `result` in order of arrival, and on the shell's own code."""
    ended = server.exec(sandbox, "echo out; echo err >&2; exit 3")

    assert ended == {"exitCode": 3, "result": "out\nerr\n"}


def test_a_program_that_reads_stdin_eats_the_rest_of_the_script(
    server: LocalServer, sandbox: str
) -> None:
    """The daemon feeds the script on stdin; a client that forgets it notices here already."""
    assert server.exec(sandbox, "cat\necho eaten")["result"] == "echo eaten"


def test_exec_ends_when_the_last_holder_of_its_output_does(
    server: LocalServer, sandbox: str
) -> None:
    """`cmd &` without a redirect blocks, as it does in the cloud."""
    ended = server.exec(sandbox, "(sleep 0.3; echo late) &\necho early")

    assert ended["result"] == "early\nlate\n"


def test_a_redirected_background_process_does_not_hold_exec(
    server: LocalServer, sandbox: str
) -> None:
    """The way that the skill teaches returns at once and leaves the process running."""
    server.exec(sandbox, "sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > pid")

    assert server.exec(sandbox, "kill -0 $(cat pid)")["exitCode"] == 0


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [("nosuchprogram", 127), ("sh -c 'kill -9 $$'", 137), ("kill -9 $$", -1), ("true", 0)],
    ids=["unknown", "child killed", "shell killed", "fine"],
)
def test_exit_codes_are_the_daemons(
    server: LocalServer, sandbox: str, command: str, exit_code: int
) -> None:
    """127, 137 and -1 mean what they mean in Daytona."""
    assert server.exec(sandbox, command)["exitCode"] == exit_code


def test_a_missing_working_directory_is_minus_one_with_the_reason(
    server: LocalServer, sandbox: str
) -> None:
    """The daemon answers 200 with -1 and the text, not an HTTP error."""
    ended = server.exec(sandbox, "pwd", cwd="/nowhere")

    assert ended["exitCode"] == -1
    assert ended["result"].endswith(": no such file or directory")
    assert ended["result"].startswith("fork/exec /")


def test_a_program_knows_its_sandbox_and_no_user(server: LocalServer) -> None:
    """As a container of Daytona's starts it: USER and LOGNAME are for logins."""
    sandbox = server.create(snapshot="daytona-small")["id"]
    script = "echo $DAYTONA_SANDBOX_ID $DAYTONA_SANDBOX_SNAPSHOT $DAYTONA_SANDBOX_USER [$USER]"

    assert server.exec(sandbox, script)["result"] == f"{sandbox} daytona-small daytona []\n"
    server.request("DELETE", f"/api/sandbox/{sandbox}")


def test_a_timeout_of_an_age_is_one(server: LocalServer, sandbox: str) -> None:
    """The daemon takes any 32 bits of seconds."""
    assert server.exec(sandbox, "echo x", timeout=2**32 - 1)["result"] == "x\n"


def test_a_last_slash_leads_to_the_call_without_it(server: LocalServer, sandbox: str) -> None:
    """Clients that join paths carelessly work there, so here too."""
    reply = server.request(
        "POST", f"/toolbox/{sandbox}/process/execute/", body={"command": "echo x"}
    )

    assert (reply.status, reply.headers.get("Location", "")[-16:]) == (307, "/process/execute")


def test_a_timeout_kills_children_that_left_session_and_parent(
    server: LocalServer, sandbox: str
) -> None:
    """A double-forked child must not survive the 408, while an earlier daemon does."""
    server.exec(sandbox, "sleep 1001 >/dev/null 2>&1 </dev/null &")
    escape = (
        'python3 -c "import os,time; os.fork() and os._exit(0); os.setsid(); '
        'os.fork() and os._exit(0); time.sleep(1002)"'
    )
    reply = server.request(
        "POST",
        f"/toolbox/{sandbox}/process/execute",
        body={"command": f"{escape}; sleep 60", "timeout": 1},
    )

    assert reply.status == 408
    assert (reply.json()["code"], reply.json()["source"]) == (
        "PROCESS_EXECUTION_TIMEOUT",
        "DAYTONA_DAEMON",
    )
    assert server.exec(sandbox, "pgrep -f 'sleep\\(1002'")["result"] == ""
    assert server.exec(sandbox, "pgrep -fx 'sleep 1001'")["exitCode"] == 0


def test_output_that_is_not_utf8_arrives_with_replacement_characters(
    server: LocalServer, sandbox: str
) -> None:
    """No byte may turn an answer into an error."""
    assert server.exec(sandbox, r"printf 'a\xffb'")["result"] == "a\ufffdb"


def test_environment_is_the_sandboxs_then_the_requests(server: LocalServer) -> None:
    """Later variables win, and nothing of the server's environment is there."""
    created = server.create(env={"A": "box", "B": "box"})

    ended = server.exec(
        created["id"],
        "echo $A $B; env | grep -ci -E 'pythonpath|virtual_env|daytona_api|dtn_local'",
        envs={"B": "request"},
    )
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert ended["result"] == "box request\n0\n"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": " \n"},
        {"command": 5},
        {"command": "x", "envs": {"1A": ""}},
        {"command": "x", "timeout": -1},
        {"command": "x", "cwd": "a\0b"},
        {"command": "\ud800"},
    ],
    ids=["nothing", "blank", "not text", "bad variable", "negative", "nul", "surrogate"],
)
def test_bad_requests_are_400_with_a_message(
    server: LocalServer, sandbox: str, body: dict[str, Any]
) -> None:
    """A client's mistake is the client's, never a 500; and it is the daemon that says so."""
    reply = server.request("POST", f"/toolbox/{sandbox}/process/execute", body=body)

    assert (reply.status, bool(reply.json()["message"]), reply.json()["source"]) == (
        400,
        True,
        "DAYTONA_DAEMON",
    )


def test_a_body_that_is_not_json_is_400(server: LocalServer, sandbox: str) -> None:
    """Garbage is refused in the same envelope."""
    assert server.request("POST", f"/toolbox/{sandbox}/process/execute", body=b"{").status == 400


def test_a_body_is_read_as_the_sdk_writes_it(server: LocalServer, sandbox: str) -> None:
    """Names as they are documented, nothing behind the JSON; compressed bodies are read."""
    path, good = f"/toolbox/{sandbox}/process/execute", b'{"command": "echo x"}'
    typed = {"Content-Type": "application/json"}
    for body in (b'{"COMMAND": "echo x"}', good + b" trailing"):
        assert server.request("POST", path, body=body, headers=typed).status == 400
    packed = server.request(
        "POST", path, body=gzip.compress(good), headers={**typed, "Content-Encoding": "gzip"}
    )

    assert packed.json()["result"] == "x\n"


def test_code_run_is_a_fresh_interpreter_on_stdin(sdk: Any, sandbox: str) -> None:
    """An exhausted stdin; of argv a shell makes what it likes, as in the daemon."""
    from daytona import CodeRunParams

    process = sdk.get(sandbox).process
    code = "import sys; print(sys.argv, sys.stdin.read() == '')"

    result = process.code_run(code, CodeRunParams(argv=["a b", "$HOME"])).result
    assert result == "['-', 'a', 'b', '/home/daytona'] True\n"


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("INT", 130)])
def test_code_that_a_signal_kills_ends_as_a_shell_tells_it(
    sdk: Any, sandbox: str, name: str, code: int
) -> None:
    """137 is how programs notice that memory ran out."""
    killed = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        f" os.kill(os.getpid(), signal.SIG{name})"
    )

    assert sdk.get(sandbox).process.code_run(killed).exit_code == code


@pytest.mark.parametrize(
    "body", [{"code": "1"}, {"language": "python"}, {"code": "", "language": "python"}]
)
def test_code_and_language_are_required(
    server: LocalServer, sandbox: str, body: dict[str, str]
) -> None:
    """The SDK sends both always."""
    reply = server.request("POST", f"/toolbox/{sandbox}/process/code-run", body=body)

    assert (reply.status, reply.json()["code"]) == (400, "INVALID_REQUEST_BODY")


def test_code_run_of_javascript_uses_the_hosts_node(sdk: Any) -> None:
    """The language is chosen at create and sent with every run; arguments come as in the daemon."""
    from daytona import CodeRunParams, CreateSandboxFromSnapshotParams

    sandbox = sdk.create(CreateSandboxFromSnapshotParams(language="javascript"))
    if sandbox.process.exec("command -v node").exit_code != 0:
        sandbox.delete()
        pytest.skip("no node on this host")
    answer = sandbox.process.code_run(
        "console.log(6 * 7, process.argv.slice(1))", CodeRunParams(argv=["a b"])
    )
    sandbox.delete()

    assert (answer.exit_code, answer.result) == (0, "42 [ 'a', 'b' ]\n")


def test_code_run_of_typescript_is_refused_with_the_way_out(
    server: LocalServer, sandbox: str
) -> None:
    """Local Daytona does not pretend to have ts-node."""
    reply = server.request(
        "POST", f"/toolbox/{sandbox}/process/code-run", body={"code": "1", "language": "typescript"}
    )

    assert reply.status == 400
    assert "python and javascript" in reply.json()["message"]


def test_a_command_longer_than_any_argument_list_runs(server: LocalServer, sandbox: str) -> None:
    """The script goes over stdin, so its size has no bound of the kernel's."""
    command = "true " + "x" * 1_000_000 + "\necho done"

    assert server.exec(sandbox, command)["result"] == "done\n"


def test_output_beyond_the_bound_is_cut_with_a_notice(server: LocalServer, sandbox: str) -> None:
    """One answer must fit into memory; nothing is dropped silently."""
    result = server.exec(sandbox, "head -c 40000000 /dev/zero | tr '\\0' x")["result"]

    assert len(result) < 34_000_000
    assert result.endswith("[local Daytona kept the first 32 MiB of this output]\n")


def test_a_flood_of_output_ends_at_the_timeout_and_the_server_lives(
    server: LocalServer, sandbox: str
) -> None:
    """Output beyond the bound is read and dropped, not held."""
    reply = server.request(
        "POST", f"/toolbox/{sandbox}/process/execute", body={"command": "yes", "timeout": 1}
    )

    assert reply.status == 408
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"


def test_python_is_there_by_its_short_name(server: LocalServer, sandbox: str) -> None:
    """As in Daytona's image; Debian itself has only python3."""
    assert server.exec(sandbox, "python -c 'print(6 * 7)'")["result"] == "42\n"


def test_an_archive_of_other_owners_unpacks(server: LocalServer, sandbox: str) -> None:
    """Most archives of the world are; the sandbox has one user, whom tar takes for root."""
    make = (
        "import io, tarfile; archive = tarfile.open('a.tar', 'w'); "
        "member = tarfile.TarInfo('file'); member.uid = member.gid = 1001; "
        "archive.addfile(member, io.BytesIO())"
    )
    ended = server.exec(sandbox, f'python3 -c "{make}"; tar xf a.tar && ls file')

    assert (ended["exitCode"], ended["result"]) == (0, "file\n")
