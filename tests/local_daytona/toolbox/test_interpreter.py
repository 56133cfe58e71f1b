"""Interpreter contexts by both SDKs and raw WebSockets: state, messages, time limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.local_daytona.pulse import pulse
from tests.local_server import LocalServer, until


@dataclass(frozen=True)
class Run:
    """What one run said: its frames, and how the server closed."""

    frames: list[dict[str, Any]]
    code: int | None
    reason: str

    def text(self, stream: str) -> str:
        return "".join(frame["text"] for frame in self.frames if frame["type"] == stream)

    @property
    def error(self) -> dict[str, str] | None:
        return next((frame for frame in self.frames if frame["type"] == "error"), None)


async def converse(server: LocalServer, sandbox: str, request: Any) -> Run:
    """One raw run; `request` is JSON unless it is text."""
    frames, reason = [], ""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_key}"}) as session,
        session.ws_connect(
            f"{server.url}/toolbox/{sandbox}/process/interpreter/execute", max_msg_size=0
        ) as socket,
    ):
        await socket.send_str(request if isinstance(request, str) else json.dumps(request))
        while True:
            message = await socket.receive(timeout=120)
            if message.type != aiohttp.WSMsgType.TEXT:
                reason = str(message.extra or "")
                break
            frames.append(json.loads(message.data))
        return Run(frames, socket.close_code, reason)


@dataclass(frozen=True)
class Python:
    """Runs code in a fresh sandbox's interpreter."""

    server: LocalServer
    sandbox: str

    def run(self, code: str, **fields: Any) -> Run:
        return asyncio.run(converse(self.server, self.sandbox, {"code": code, **fields}))

    def context(self, method: str = "POST", name: str = "", **fields: Any) -> Any:
        path = f"/toolbox/{self.sandbox}/process/interpreter/context" + (f"/{name}" if name else "")
        return self.server.request(method, path, body=fields if method == "POST" else None)


@pytest.fixture
def python(server: LocalServer, sandbox: str) -> Python:
    return Python(server, sandbox)


@pytest.fixture
def box(sdk: Any) -> Iterator[Any]:
    """A fresh sandbox of the synchronous SDK."""
    sandbox = sdk.create()
    yield sandbox
    sandbox.delete()


def test_the_sdk_keeps_variables_streams_output_and_tells_errors(box: Any) -> None:
    """The documented call."""
    out: list[str] = []
    interpreter = box.code_interpreter

    interpreter.run_code("import os, sys\nx = [1, 2]\ndef double(): return x * 2")
    answer = interpreter.run_code(
        "print(double()); sys.stderr.write('careful')",
        on_stdout=lambda message: out.append(message.output),
    )
    failed = interpreter.run_code("y = 5\nx[y]")
    kept = interpreter.run_code("print(y)")

    assert (answer.stdout, answer.stderr, answer.error) == ("[1, 2, 1, 2]\n", "careful", None)
    assert "".join(out) == answer.stdout
    assert (failed.error.name, failed.error.value) == ("IndexError", "list index out of range")
    assert failed.error.traceback == (
        'Traceback (most recent call last):\n  File "<stdin>", line 2\n'
        "IndexError: list index out of range\n"
    )
    assert kept.stdout == "5\n"


def test_the_sdks_contexts_share_nothing(box: Any) -> None:
    """Each has its own variables and directory; the default one is not listed."""
    from daytona import DaytonaNotFoundError

    interpreter = box.code_interpreter
    interpreter.run_code("x = 'default'")
    context = interpreter.create_context(cwd="/tmp")
    interpreter.run_code("x = 'own'", context=context)
    seen = interpreter.run_code("import os; print(x, os.getcwd())", context=context).stdout
    listed = interpreter.list_contexts()
    interpreter.delete_context(context)

    assert seen == "own /tmp\n"
    assert interpreter.run_code("print(x)").stdout == "default\n"
    assert [(item.id, item.cwd, item.language, item.active) for item in listed] == [
        (context.id, "/tmp", "python", True)
    ]
    assert interpreter.list_contexts() == []
    with pytest.raises(DaytonaNotFoundError):
        interpreter.delete_context(context)


def test_the_asynchronous_sdk_runs_and_times_out(server: LocalServer) -> None:
    """4008 becomes the SDK's own error, and what was defined before is still there."""
    from daytona import AsyncDaytona, DaytonaConfig, DaytonaTimeoutError

    async def run() -> str:
        async with AsyncDaytona(
            DaytonaConfig(api_key=server.api_key, api_url=server.api_url)
        ) as client:
            sandbox = await client.create()
            await sandbox.code_interpreter.run_code("kept = 1")
            with pytest.raises(DaytonaTimeoutError):
                await sandbox.code_interpreter.run_code("import time; time.sleep(1000)", timeout=1)
            answer = await sandbox.code_interpreter.run_code("print('kept', kept)")
            await sandbox.delete(timeout=60)
            return str(answer.stdout)

    assert asyncio.run(asyncio.wait_for(run(), 120)) == "kept 1\n"


def test_variables_of_the_environment_hold_for_one_run(python: Python) -> None:
    """A token for one call must not stay; what the code itself sets does."""
    first = python.run(
        "import os; os.environ['MINE'] = '1'; print(os.environ['TOKEN'])",
        envs={"TOKEN": "geheim", "HOME": "/x"},
    )
    second = python.run(
        "import os; print(os.environ.get('TOKEN'), os.environ['HOME'], os.environ['MINE'])"
    )

    assert first.text("stdout") == "geheim\n"
    assert second.text("stdout") == "None /home/daytona 1\n"


def test_what_children_print_arrives_and_nothing_that_is_printed_breaks_the_frames(
    python: Python,
) -> None:
    """Output and answers go apart: raw bytes at descriptor 1, even what looks like an answer."""
    run = python.run(
        "import os, subprocess, sys\n"
        "print('first', flush=True)\n"
        'os.write(1, b\'{"id": 1, "error": null}\\n\\xff\\x00\\n\')\n'
        "subprocess.run(['sh', '-c', 'echo child; echo wrong >&2'])\n"
        "sys.stdout.write('no newline ä')\n"
    )

    assert run.text("stdout") == 'first\n{"id": 1, "error": null}\n\ufffd\0\nchild\nno newline ä'
    assert run.text("stderr") == "wrong\n"
    assert (run.code, run.frames[-1]) == (1000, {"type": "control", "text": "completed"})


def test_much_output_comes_whole_in_bounded_frames(python: Python) -> None:
    """No message is larger than a client's usual limit, and no character is torn apart."""
    run = python.run("print('äöü€' * 500_000)")

    assert run.text("stdout") == "äöü€" * 500_000 + "\n"
    assert max(len(json.dumps(frame)) for frame in run.frames) <= 128 * 1024


def test_a_line_is_one_message_and_half_a_line_comes_at_the_end(box: Any) -> None:
    """Callbacks print what they hear: a message for a line and one for its end would tear it."""
    heard: list[str] = []
    box.code_interpreter.run_code(
        "import time\nfor n in (1, 2):\n    print(n, 'x'); time.sleep(0.2)\nprint('half', end='')",
        on_stdout=lambda message: heard.append(message.output),
    )

    assert heard == ["1 x\n", "2 x\n", "half"]


def test_runs_of_one_context_wait_for_one_another_in_order(python: Python) -> None:
    """Ten at once leave the namespace as if they had come one by one."""

    async def run() -> list[Run]:
        running = []
        for number in range(10):
            code = f"import time; time.sleep(0.02); seen.append({number}); print(seen)"
            running.append(
                asyncio.create_task(converse(python.server, python.sandbox, {"code": code}))
            )
            await asyncio.sleep(0.1)
        return await asyncio.gather(*running)

    python.run("import time; seen = []; time.sleep(0)")
    runs = asyncio.run(run())

    assert [json.loads(item.text("stdout")) for item in runs] == [
        list(range(number + 1)) for number in range(10)
    ]


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise SystemExit('bye')"])
def test_an_exit_is_no_error_and_ends_no_context(python: Python, code: str) -> None:
    """Scripts end so; the variables stay."""
    python.run("x = 1")
    run = python.run(code)

    assert (run.error, run.code) == (None, 1000)
    assert python.run("print(x)").text("stdout") == "1\n"


@pytest.mark.parametrize("code", ["exit()", "def f(): quit()\nf()", "raise BaseException('b')"])
def test_what_closes_stdin_or_is_no_exception_ends_the_interpreter(
    python: Python, code: str
) -> None:
    """And its variables with it: exit() closes the pipe by which the daemon's worker hears."""
    python.run("x = 1")
    run = python.run(code)

    assert (run.error, run.code) == (None, 1001)
    assert python.run("print('x' in globals())").text("stdout") == "False\n"


@pytest.mark.parametrize(
    "code",
    ["raise KeyboardInterrupt", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"],
)
def test_an_interrupt_of_its_own_reads_as_a_timeout(python: Python, code: str) -> None:
    """The daemon cannot tell them apart; the variables stay."""
    python.run("x = 1")

    assert python.run(code).code == 4008
    assert python.run("print(x)").text("stdout") == "1\n"


def test_code_that_catches_its_timeout_comes_to_an_end_of_its_own(python: Python) -> None:
    """What went on after the interrupt, within the grace, has completed."""
    waiting = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')"
    run = python.run(waiting, timeout=1)

    assert (run.code, run.text("stdout")) == (1000, "caught\n")


def test_streams_are_the_daemons(python: Python) -> None:
    """No buffer, no descriptor, no end; what UTF-8 cannot carry is replaced."""
    for code, name in (
        ("import sys; sys.stdout.buffer", "AttributeError"),
        ("import sys; sys.stdout.fileno()", "UnsupportedOperation"),
    ):
        assert (python.run(code).error or {})["name"] == name
    odd = python.run("import sys; sys.stdout.close(); print('x'); print('\\ud800')")
    assert (odd.error, odd.text("stdout")) == (None, "x\n\ufffd\n")


def test_the_working_directory_is_not_on_the_path_of_modules(python: Python) -> None:
    """Nor does pickle find what is defined in a context: both fail in the cloud."""
    python.server.exec(python.sandbox, "echo 'x = 1' > own_module.py")

    assert (python.run("import own_module").error or {})["name"] == "ModuleNotFoundError"
    pickled = python.run("import pickle\nclass A: pass\npickle.dumps(A())")
    assert (pickled.error or {})["name"] == "PicklingError"


def test_what_reads_stdin_is_told_that_there_is_none(python: Python) -> None:
    """In the daemon it waits for ever."""
    assert (python.run("input()").error or {})["name"] == "EOFError"


def test_a_time_limit_interrupts_and_keeps_the_variables(python: Python) -> None:
    """SIGINT first: what listens to it ends cleanly, its children too."""
    python.run("x = 1")
    waiting = (
        "import subprocess\n"
        "print('begun')\n"
        "try:\n"
        "    subprocess.run(['sleep', '4242'])\n"
        "finally:\n"
        "    print('cleaned')"
    )
    run = python.run(waiting, timeout=1)

    assert (run.code, run.frames[-1], run.error) == (
        4008,
        {"type": "control", "text": "interrupted"},
        None,
    )
    assert run.text("stdout") == "begun\ncleaned\n"
    assert python.run("print(x)").text("stdout") == "1\n"
    assert python.server.exec(python.sandbox, "pgrep -f 'sleep 424[2]'")["exitCode"] == 1


def test_what_ignores_the_interrupt_is_killed_and_the_context_starts_anew(python: Python) -> None:
    """A hostile loop ends with its children; the next run gets an empty namespace, not a hang."""
    stubborn = (
        "import signal, subprocess, sys\nx = 1\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "subprocess.Popen(['sh', '-c', \"trap '' INT; exec sleep 4242\"])\n"
        "print('deaf', flush=True)\n"
        "while True: pass"
    )
    run = python.run(stubborn, timeout=1)
    after = python.run("print('x' in globals())")

    assert (run.code, run.text("stdout")) == (4008, "deaf\n")
    assert after.text("stdout") == "False\n"
    assert python.server.exec(python.sandbox, "pgrep -f 'sleep 424[2]'")["exitCode"] == 1


CHANNEL = "import os; print('last', flush=True); channel = 3\n"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import os; print('last', flush=True); os._exit(5)", "exit code 5"),
        (
            "import os, signal; print('last', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
            "signal 9",
        ),
        ("import os; print('last', flush=True); os.closerange(3, 1000)", "ended"),
        (CHANNEL + "os.write(channel, b'x' * 5_000_000)", "made no sense"),
        (
            CHANNEL
            + (
                "os.write(channel, b'[' * 100_000 + b'\\n'); os.read(0, 1); import time; "
                "time.sleep(1000)"
            ),
            "made no sense",
        ),
    ],
)
def test_an_interpreter_that_dies_says_so(python: Python, code: str, word: str) -> None:
    """The variables are gone; the client is told instead of waiting, and the next run works."""
    run = python.run(code)

    assert run.code == 1001
    assert word in run.reason
    assert run.text("stdout") == "last\n"
    assert python.run("print('next')").text("stdout") == "next\n"


def test_a_fork_does_not_answer_twice(python: Python) -> None:
    """The child of a bare fork comes to the end of the code as well."""
    run = python.run(
        "import os, sys\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "print('child' if not child else 'parent', flush=True)"
    )

    assert sorted(run.text("stdout").split()) == ["child", "parent"]
    assert python.run("print(2)").text("stdout") == "2\n"


def test_errors_that_cannot_be_shown_are_errors_all_the_same(python: Python) -> None:
    """An exception's own methods run while it is told; huge ones are cut."""
    rude = python.run(
        "class Rude(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Rude"
    )
    huge = python.run("raise ValueError('\\ud800' + 'x' * 10_000_000)")
    syntax = python.run("print('a'\nx = ")

    assert (rude.error or {})["name"] == "Rude"
    assert 0 < len((huge.error or {})["value"]) < 100_000
    assert (syntax.error or {})["name"] == "SyntaxError"
    assert "(<string>, line 1)" in (syntax.error or {})["traceback"]
    assert {rude.code, huge.code, syntax.code} == {1000}


def test_code_behaves_as_in_a_file(python: Python) -> None:
    """Dataclasses, asyncio, an empty stdin; no names or features of the worker's own."""
    run = python.run(
        "import asyncio, sys\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "assert Point(1) == Point(1)\n"
        "assert asyncio.run(asyncio.sleep(0, 'slept')) == 'slept'\n"
        "assert __name__ == '__main__' and sys.stdin.read() == ''\n"
        "assert Point.__annotations__ == {'x': int}, "
        "'the worker has from __future__ import annotations'\n"
        "assert not {'Worker', 'json', 'signal'} & set(globals())\n"
        "try: import files\nexcept ImportError: print('clean')"
    )

    assert run.error is None
    assert run.text("stdout") == "clean\n"


@pytest.mark.parametrize(
    ("request_", "code", "word"),
    [
        ({"code": "print(1)", "contextId": "other"}, 1008, "not found"),
        ({"code": "print(1)", "contextId": ""}, 1008, "not found"),
        ({"code": ""}, 1008, "code"),
        ({"code": 5}, 1002, "code"),
        ({"code": "1", "envs": {"A=B": ""}}, 1008, "environment variable"),
        ({"code": "1", "timeout": -1}, 1002, "timeout"),
        ({"code": "1", "timeout": 1.5}, 1002, "timeout"),
        ("nonsense", 1002, "JSON"),
        ("[]", 1002, "JSON"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    python: Python, request_: Any, code: int, word: str
) -> None:
    """By the close code of a protocol error or a policy violation, with the reason."""
    run = asyncio.run(converse(python.server, python.sandbox, request_))

    assert (run.frames, run.code) == ([], code)
    assert word in run.reason


def test_contexts_are_refused_by_http_status(python: Python) -> None:
    """Another language, a directory that is not there, the default one's deletion."""
    assert python.context(language="ruby").status == 400
    assert python.context(cwd="/nowhere").status == 500
    assert python.context("DELETE", "default").status == 400
    assert python.context("DELETE", "other").status == 404
    plain = python.server.request(
        "GET", f"/toolbox/{python.sandbox}/process/interpreter/execute"
    ).status
    assert plain == 400


def test_a_run_goes_on_when_its_client_leaves(python: Python) -> None:
    """As every command of Daytona; its state is there for the next."""

    async def leave() -> None:
        async with (
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {python.server.api_key}"}
            ) as session,
            session.ws_connect(
                f"{python.server.url}/toolbox/{python.sandbox}/process/interpreter/execute"
            ) as socket,
        ):
            await socket.send_str(
                json.dumps(
                    {
                        "code": (
                            "import time\n"
                            "print('on', flush=True)\n"
                            "time.sleep(0.5)\n"
                            "x = 'done'\n"
                            "open('/tmp/done', 'w')"
                        )
                    }
                )
            )
            await socket.receive()

    asyncio.run(leave())
    until(lambda: python.server.exec(python.sandbox, "test -e /tmp/done")["exitCode"] == 0)

    assert python.run("print(x)").text("stdout") == "done\n"


def test_nothing_stays_open_in_the_server(python: Python) -> None:
    """Contexts that were deleted, interpreters that died or were killed: descriptors come back."""
    folder = Path(f"/proc/{python.server.pid}/fd")
    python.run("1")
    before = len(list(folder.iterdir()))
    for _ in range(5):
        context = python.context().json()["id"]
        python.run("print(1)", contextId=context)
        assert python.context("DELETE", context).status == 200
        python.run("import os; os._exit(1)")
        python.run("print(1)")

    until(lambda: len(list(folder.iterdir())) <= before + 2)


@pytest.mark.parametrize("how", ["delete the context", "stop the sandbox"])
def test_nobody_waits_for_what_is_gone(server: LocalServer, how: str) -> None:
    """A run that is ended from outside closes its connection, as do those that wait behind it."""
    python = Python(server, server.create()["id"])
    context = python.context().json()["id"]

    def has_begun() -> bool:
        return bool(server.exec(python.sandbox, "test -e /tmp/begun")["exitCode"] == 0)

    async def run() -> list[Run]:
        running = []
        for code in ("open('/tmp/begun', 'w'); import time; time.sleep(1000)", "print('never')"):
            running.append(
                asyncio.create_task(
                    converse(server, python.sandbox, {"code": code, "contextId": context})
                )
            )
            await asyncio.to_thread(until, has_begun)
        if how == "delete the context":
            assert (await asyncio.to_thread(python.context, "DELETE", context)).status == 200
        else:
            await asyncio.to_thread(server.request, "POST", f"/api/sandbox/{python.sandbox}/stop")
        return await asyncio.gather(*running)

    runs = asyncio.run(asyncio.wait_for(run(), 60))

    assert all(item.code in (1001, 1008, 1011) for item in runs)
    assert [item.text("stdout") for item in runs] == ["", ""]
    server.request("DELETE", f"/api/sandbox/{python.sandbox}")


LINGERING = (
    "import array, os, socket, stat, struct, threading, time\n"
    "listener = socket.socket()\n"
    "listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)\n"
    "listener.bind(('127.0.0.1', 0)); listener.listen(1)\n"
    "sent = socket.socket(); sent.connect(listener.getsockname())\n"
    "peer, _ = listener.accept(); sent.setblocking(False)\n"
    "try:\n"
    "    while True: sent.send(b'x' * 65536)\n"
    "except BlockingIOError: pass\n"
    "sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 9))\n"
    "def throw(channel):\n"
    "    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [sent.fileno()]))]\n"
    "    channel.sendall((b'{\"id\": -1, \"x\": \"' + b'y' * 60000 + b'\"}\\n') * 3)\n"
    "    channel.sendmsg([b'{\"id\": -1}\\n'], rights)\n"
    "    os.close(sent.detach())\n"
    "for number in map(int, os.listdir('/proc/self/fd')):\n"
    "    try:\n"
    "        if not stat.S_ISSOCK(os.fstat(number).st_mode): continue\n"
    "        channel = socket.socket(fileno=os.dup(number))\n"
    "        if channel.family != socket.AF_UNIX: continue\n"
    "    except OSError: continue\n"
    "    print('a way to the server:', number, flush=True)\n"
    "    threading.Thread(target=throw, args=(channel,)).start()\n"
    "print('looked', flush=True); time.sleep(3)\n"
)


def test_code_can_send_the_server_no_descriptor(python: Python) -> None:
    """A socket with unsent data blocks whoever closes it last, and with it every other sandbox."""
    with pulse(python.server) as beat:
        run = python.run(LINGERING)

    assert run.text("stdout") == "looked\n"
    assert beat.number > 10
    assert beat.longest < 5
