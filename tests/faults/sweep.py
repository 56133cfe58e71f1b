"""python3 -m tests.faults.sweep [CASES] [SEED]: every scenario, with a fault at any request.

Each with every fault and every signal at each request; then what must hold afterwards is checked.

By hand it runs as many cases as it is told; the suite runs a seeded sample. A case runs in this
process, because importing the SDK costs more than the case; only SIGKILL needs one of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local_server import SCRIPTS, LocalServer, new_state_dir, running_server

from .proxy import Fault, Proxy, running_proxy

HANG_S = 90
SECRET = "hunter2-is-a-secret"
FAULTS: tuple[int | str, ...] = (
    400,
    401,
    403,
    404,
    409,
    429,
    500,
    502,
    503,
    "delay",
    "drop-before",
    "drop-after",
    "cut",
    "garbage",
    "late",
    "foreign",
    "stale",
    "drip",
    "flood",
    "null",
    "list",
    "deep",
    "huge",
)
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
ENV = ("--env", f"TOKEN={SECRET}")
BOUNDED = (*ENV, "--timeout", "6")  # a stream that only pings lasts as long
SERVE = ("--serve", "python3 -m http.server 8000", "--preview", "8000")
# Name -> (arguments, the program's own exit code, how many requests a run makes at the most).
SCENARIOS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "run": (("--command", "echo $TOKEN; exit 3", *BOUNDED), 3, 9),
    "code": (("--code", "print(1)", *BOUNDED), 0, 9),
    "steps": (("--setup", "echo s", "--command", "echo a", "--command", "exit 4", *BOUNDED), 4, 15),
    "transfer": (
        (
            "--upload",
            "project",
            "--command",
            "mkdir o; echo r > o/r.csv",
            "--download",
            "o:back",
            "--force",
            *BOUNDED,
        ),
        0,
        14,
    ),
    "network": (("--setup", "true", "--no-network", "--command", "true", *BOUNDED), 0, 14),
    "preview": ((*SERVE, *BOUNDED), 0, 12),
    "keep": (("--keep", "--command", "true", *BOUNDED), 0, 9),
    "name": (("--name", "swept", "--command", "true", *BOUNDED), 0, 10),
    "detach": (("--detach", "--command", "sleep 5", *ENV), 0, 8),
    "reuse": (("--sandbox", "base", "--command", "exit 3", *BOUNDED), 3, 9),
    "repo": (
        (
            "--sandbox",
            "base",
            "--repo",
            "http://127.0.0.1:9999/r.git",
            "--command",
            "rm -r repo",
            *BOUNDED,
        ),
        0,
        11,
    ),
    "each": (
        ("--each", "a", "--each", "b", "--jobs", "2", "--command", "echo $TOKEN $EACH", *BOUNDED),
        0,
        18,
    ),
    "timeout": (("--command", "sleep 30", *ENV, "--timeout", "1"), 124, 9),
}
KEEPING = ("preview", "keep", "name", "detach")
PREPARE = (
    "git init -q -b main /tmp/src && cd /tmp/src && "
    "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && "
    "git clone -q --bare . /tmp/www/r.git && cd /tmp/www/r.git && git update-server-info && "
    "cd /tmp/www && "
    "(python3 -m http.server 9999 --bind 127.0.0.1 >/dev/null 2>&1 </dev/null &) ; sleep 1"
)


@dataclass(frozen=True)
class Case:
    """One scenario with one fault (None: none) at one request."""

    scenario: str
    action: int | str | None
    at: int

    def __str__(self) -> str:
        return f"{self.scenario}-{self.action}-{self.at}"


@dataclass(frozen=True)
class Outcome:
    """What the user saw."""

    code: int
    stdout: str
    stderr: str


def all_cases() -> list[Case]:
    cases = []
    for (name, (_, _, most)), action in itertools.product(SCENARIOS.items(), (*FAULTS, *SIGNALS)):
        cases += [Case(name, action, at) for at in range(1, most + 1)]
    return cases


class Sweep:
    """A server, a proxy before it, and two sandboxes that are nobody's to delete."""

    def __init__(self, server: LocalServer, proxy: Proxy, folder: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.work = folder / "work"
        self.logs = folder / "state"
        (self.work / "project").mkdir(parents=True)
        (self.work / "project" / "file").write_text("x")
        from sandbox_kit.ownership import this_user

        with in_place(self.work, self.environment):
            labels = this_user().labels
        server.create(name="foreign", autoStopInterval=0)
        server.create(name="base", autoStopInterval=0, labels=labels)
        assert server.exec("base", PREPARE)["exitCode"] == 0

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("DAYTONA_")
        }
        return {
            **kept,
            "DAYTONA_API_URL": self.proxy.api_url,
            "DAYTONA_API_KEY": self.server.api_key,
            "XDG_STATE_HOME": str(self.logs),
            "DAYTONA_LOCAL_STATE": str(self.server.state_dir),
        }

    def run(self, case: Case) -> list[str]:
        """Everything that is wrong after this case; [] is what is wanted."""
        argv = [*SCENARIOS[case.scenario][0], "--json"]
        self.proxy.faults[:] = (
            [] if case.action is None else [Fault(".*", ".*", case.action, at=case.at)]
        )
        self.proxy.number = 0
        self.proxy.started.clear()
        outcome = self._as_process(argv) if case.action == "SIGKILL" else self._here(argv)
        self._wait_until_quiet()
        reached = self.proxy.number >= case.at
        self.proxy.faults.clear()
        try:
            return [f"{case}: {wrong}" for wrong in self._judge(case, outcome, reached=reached)]
        finally:
            self._sweep_up()

    def _wait_until_quiet(self) -> None:
        for _ in range(500):
            if not self.proxy.busy:
                return
            time.sleep(0.02)

    def _here(self, argv: Sequence[str]) -> Outcome:
        from sandbox_kit.entry import run_in_sandbox

        self.proxy.kill = lambda number: os.kill(os.getpid(), number)
        out, err = Path(self.work.parent / "out"), Path(self.work.parent / "err")
        with contextlib.ExitStack() as stack:
            stdout, stderr = (
                stack.enter_context(out.open("w+")),
                stack.enter_context(err.open("w+")),
            )
            for context in (in_place(self.work, self.environment), surviving_signals()):
                stack.enter_context(context)
            stack.enter_context(contextlib.redirect_stdout(stdout))
            stack.enter_context(contextlib.redirect_stderr(stderr))
            code = run_in_sandbox(argv)
        return Outcome(code, out.read_text(), err.read_text())

    def _as_process(self, argv: Sequence[str]) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPTS / "run_in_sandbox.py"), *argv],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.proxy.kill = process.send_signal
        out, err = process.communicate(timeout=HANG_S)
        return Outcome(process.returncode, out, err)

    def _judge(self, case: Case, outcome: Outcome, *, reached: bool) -> Iterator[str]:
        left = [
            found for found in self.server.sandboxes() if found["name"] not in ("foreign", "base")
        ]
        for found in left:
            is_ours = found["labels"].get("managed-by") == "daytona-sandbox"
            if not found.get("autoDestroyAt") or not is_ours:
                yield f"{found['name']} has no end or is not labelled"
            if found["id"] not in outcome.stderr and found["name"] not in outcome.stderr:
                yield f"nobody was told of {found['name']}"
        yield from self._judge_the_others()
        if len(set(self.proxy.started)) != len(self.proxy.started):
            yield "a program was started twice"
        texts = [
            outcome.stderr,
            outcome.stdout,
            *(path.read_text() for path in self.logs.rglob("*.log")),
        ]
        if any(SECRET in text or self.server.api_key in text for text in texts):
            yield "a secret is in the output or a log"
        if "Traceback" in outcome.stderr:
            yield "a traceback"
        if case.action != "SIGKILL":
            yield from judge_the_answer(case, outcome, left, reached=reached)

    def _judge_the_others(self) -> Iterator[str]:
        for name in ("foreign", "base"):
            found = self.server.get(name)
            if found is None or found["state"] != "started":
                yield f"{name} was touched"

    def _sweep_up(self) -> None:
        for found in self.server.sandboxes():
            if found["name"] not in ("foreign", "base"):
                self.server.request("DELETE", f"/api/sandbox/{found['id']}")
        self.server.exec("base", "rm -rf /home/daytona/repo /tmp/daytona-sandbox-*")


def judge_the_answer(
    case: Case, outcome: Outcome, left: list[dict[str, Any]], *, reached: bool
) -> Iterator[str]:
    """Exit code, error kind, fix; a sandbox is left only where that was meant or is told."""
    from sandbox_kit.errors import KINDS

    answer = json.loads(outcome.stdout)
    error, expected = answer["error"], SCENARIOS[case.scenario][1]
    signalled = str(case.action).startswith("SIG")
    allowed = {expected, 125} | ({128 + getattr(signal, str(case.action))} if signalled else set())
    if outcome.code not in allowed:
        yield f"exit code {outcome.code}"
    if not reached and outcome.code != expected:
        yield f"no fault was injected, and the exit code is {outcome.code}"
    if outcome.code == 125 and error is None:
        yield "125 without an error"
    if error is not None:
        if error["kind"] not in KINDS or not error["message"] or not error["fix"]:
            yield f"a poor error: {error}"
        if not outcome.stderr.splitlines()[-1].startswith("fix: "):
            yield "no fix line at the end"
    if left and case.scenario not in KEEPING and "may be left behind" not in outcome.stderr:
        yield "a sandbox is left"


@contextlib.contextmanager
def in_place(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """This process as if started there; a case that hangs ends everything, with every stack."""
    before, kept = Path.cwd(), dict(os.environ)
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def surviving_signals() -> Iterator[None]:
    """A signal after the run's end must not end the sweep; afterwards all is as it was."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {name: signal.signal(getattr(signal, name), lambda *_: None) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def shorten_pauses(replace: Callable[[Any, str, Any], None]) -> None:
    """A fault is not waited for as long as in life."""
    from sandbox_kit import downloads, lease, many_runs, remote_process, run_steps
    from sandbox_kit.sdk import client, sandbox, transport

    for module, name, value in (
        (client, "REQUEST_TIMEOUT_S", 2.0),
        (sandbox, "REQUEST_TIMEOUT_S", 2.0),
        (sandbox, "DELETE_TIMEOUT_S", 2.0),
        (sandbox, "UPLOAD_TIMEOUT_S", 2.0),
        (sandbox, "CLONE_TIMEOUT_S", 2.0),
        (client, "DELETE_TIMEOUT_S", 2.0),
        (run_steps, "UNPACK_TIMEOUT_S", 2),
        (downloads, "UNPACK_TIMEOUT_S", 2),
        (sandbox, "HTTP_GRACE_S", 0.5),
        (transport, "STALL_S", 1.0),
        (many_runs, "SHORTEST_WAIT_S", 0.05),
        (lease, "CREATE_TIMEOUT_S", 3.0),
        (lease, "CREATE_GRACE_S", 3.0),
        (lease, "DELETE_PAUSES_S", (0.0, 0.05, 0.05)),
        (lease, "LOOK_PAUSES_S", (0.0, 0.05, 0.05)),
        (remote_process, "RECONNECT_PAUSE_S", 0.02),
        (remote_process, "LAST_OUTPUT_S", 1.0),
        (remote_process, "POLL_S", (0.02, 0.05, 0.2)),
    ):
        replace(module, name, value)


@contextlib.contextmanager
def ready(server: LocalServer) -> Iterator[Sweep]:
    with running_proxy(server.url) as proxy, tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(server, proxy, Path(folder))
        try:
            yield sweep
        finally:
            for name in ("foreign", "base"):
                server.request("DELETE", f"/api/sandbox/{name}")


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    number, seed = (int(words[0]) if words else 10**6), (int(words[1]) if len(words) > 1 else 0)
    sys.path.insert(0, str(SCRIPTS))
    shorten_pauses(setattr)
    cases = all_cases()
    chosen = cases if number >= len(cases) else random.Random(seed).sample(cases, number)
    wrong: list[str] = []
    with running_server(new_state_dir()) as server, ready(server) as sweep:
        for done, case in enumerate(chosen, 1):
            found = sweep.run(case)
            wrong += found
            for line in found:
                print(line, flush=True)
            if done % 100 == 0:
                print(f"{done} of {len(chosen)} cases, {len(wrong)} wrong", flush=True)
    print(f"{len(chosen)} cases (seed {seed}), {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
