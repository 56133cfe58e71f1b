"""The worker of one interpreter context: runs code after code in a namespace that lives on.

Requests come through the pipe at descriptor 0, answers go through the one at 3: pipes, because over
a socket the code could send the server a descriptor. One request and one answer is one line of
JSON; what the code prints goes to the pipes at 1 and 2, which carry nothing else, so no program can
break the framing by printing.
"""

from __future__ import annotations

import io
import json
import linecache
import os
import signal
import sys
import traceback
import types

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWERS = 3  # the descriptor
LONGEST_NAME = 1000
# Characters; JSON makes up to six bytes of one, and a line has its limit in the server.
LONGEST_VALUE = 20_000
LONGEST_TRACEBACK = 100_000
OWN_FRAMES = 2  # `run` and `execute` below


class Worker:
    """The two pipes, and the namespace that all code of this context shares."""

    def __init__(self, requests: int, answers: int) -> None:
        self.requests = os.fdopen(requests, "rb")
        self.answers = answers
        self.module = types.ModuleType("__main__")
        # pickle and dataclasses look their classes up there.
        sys.modules["__main__"] = self.module
        self.pid = os.getpid()
        self.count = 0

    def serve(self) -> None:
        """Until the server closes its end."""
        for line in self.requests:
            request = json.loads(line)
            error = self.run(request["code"], request["envs"])
            if os.getpid() != self.pid:  # the code forked and its child came back here
                os._exit(0)
            self.tell({"id": request["id"], "error": error})

    def tell(self, answer: Mapping[str, object]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self.answers, data) :]

    def run(self, code: str, envs: Mapping[str, str]) -> dict[str, str] | None:
        """Run it with `envs` laid over the environment; what it raised, SystemExit left out."""
        before = dict(os.environ)
        os.environ.update(envs)
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self.execute(code)
            finally:
                signal.signal(signal.SIGINT, ignore)
        except SystemExit:
            return None
        except BaseException as error:  # noqa: BLE001 (told to the client)
            return described(error)
        finally:
            restore(envs, before)
            flush()
        return None

    def execute(self, code: str) -> None:
        """Under a file name of its own, so that a traceback can show the lines."""
        self.count += 1
        name = "<cell %d>" % self.count
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        program = compile(code, name, "exec", dont_inherit=True)
        exec(program, self.module.__dict__)  # noqa: S102 (running code is the purpose)


def ignore(_number: int, _frame: types.FrameType | None) -> None:
    """Between two pieces of code there is nothing to interrupt."""


def restore(envs: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Give only the run's own variables back: what the code itself has set stays."""
    for name in envs:
        if name in before:
            os.environ[name] = before[name]
        else:
            os.environ.pop(name, None)


def flush() -> None:
    """The code may have closed or replaced its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110 (whatever a stream of the code's own raises)
            pass


def described(error: BaseException) -> dict[str, str]:
    """Name, value and traceback of the code's own frames, also of what cannot be printed."""
    name, value, shown = type(error).__name__, "", ""
    try:
        value = str(error)
        frames = error.__traceback__
        for _ in range(OWN_FRAMES):
            frames = frames.tb_next if frames is not None else None
        shown = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # noqa: BLE001 (its own __str__ ran)
        shown = shown or name + ": cannot be shown\n"
    return {
        "name": text(name, LONGEST_NAME),
        "value": text(value, LONGEST_VALUE),
        "traceback": text(shown, LONGEST_TRACEBACK),
    }


def text(value: str, longest: int) -> str:
    """What UTF-8 can carry, cut in the middle: both ends of a traceback matter."""
    value = value.encode(errors="replace").decode()
    if len(value) <= longest:
        return value
    return value[: longest // 2] + "\n[...]\n" + value[-longest // 2 :]


def main() -> None:
    """Move the pipes out of the code's way, then serve; the code's own stdin is empty."""
    requests = os.dup(0)
    os.set_inheritable(ANSWERS, False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        # A message a line, not one for its text and one for its end.
        stream.reconfigure(line_buffering=True, write_through=False)
    signal.signal(signal.SIGINT, ignore)
    sys.argv = [""]
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = ""  # the working directory, as for any code that is not a file
    Worker(requests, ANSWERS).serve()


if __name__ == "__main__":
    main()
