"""The worker of one interpreter context: runs code after code in a namespace that lives on.

Requests come through the pipe at descriptor 0, answers go through the one at 3: pipes, because over
a socket the code could send the server a descriptor. One request and one answer is one line of
JSON; what the code prints goes to the pipes at 1 and 2, which carry nothing else, so no program can
break the framing by printing.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import re
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
FILE = "<string>"  # of all code; tracebacks call it <stdin>
LONGEST_WAIT = 8192  # characters of a line that is not ended
SURROGATE = re.compile("[\ud800-\udfff]")


class Stream(io.TextIOBase):
    """What code prints to, as the real daemon's: without a buffer below it or a descriptor.

    It cannot be closed, and carries every character: what UTF-8 cannot becomes U+FFFD. A message a
    line, not one for its text and one for its end.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._waiting += text
        done = self._waiting.rfind("\n") + 1
        if len(self._waiting) - done > LONGEST_WAIT:
            done = len(self._waiting)
        self._send(done)
        return len(text)

    def flush(self) -> None:
        self._send(len(self._waiting))

    def close(self) -> None:
        self.flush()

    def _send(self, size: int) -> None:
        text, self._waiting = self._waiting[:size], self._waiting[size:]
        data = SURROGATE.sub("\ufffd", text).encode()
        while data:
            data = data[os.write(self._descriptor, data) :]


class Worker:
    """The two pipes, and the namespace that all code of this context shares.

    It is no module: pickle finds no class of it, as in the real daemon.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self.requests = os.fdopen(requests, "rb")
        self.answers = answers
        self.namespace = {"__name__": "__main__", "__builtins__": builtins, "__doc__": None}
        self.pid = os.getpid()

    def serve(self) -> None:
        """Until the server closes its end, or the code ended the worker."""
        for line in self.requests:
            request = json.loads(line)
            answer = self.run(request["code"], request["envs"])
            if os.getpid() != self.pid:  # the code forked and its child came back here
                os._exit(0)
            self.tell({"id": request["id"], **answer})
            if answer["ends"]:
                os._exit(1)

    def tell(self, answer: Mapping[str, object]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self.answers, data) :]

    def run(self, code: str, envs: Mapping[str, str]) -> dict[str, object]:
        """Run it with `envs` laid over the environment; what it raised, SystemExit left out.

        `interrupted`: by SIGINT, or a KeyboardInterrupt of its own. `ends`: by an exception that is
        no Exception, or by exit() and quit(), which close stdin.
        """
        before, error, interrupted, ends = dict(os.environ), None, False, False
        os.environ.update(envs)
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                exec(compile(code, FILE, "exec", dont_inherit=True), self.namespace)  # noqa: S102
            finally:
                signal.signal(signal.SIGINT, ignore)
        except SystemExit:
            ends = sys.stdin.closed
        except KeyboardInterrupt:
            interrupted = True
        except Exception as raised:  # noqa: BLE001 (told to the client)
            error = described(raised)
        except BaseException:  # noqa: BLE001 (the real worker does not catch it)
            ends = True
        finally:
            restore(envs, before)
            flush()
        return {"error": error, "interrupted": interrupted, "ends": ends}


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


def described(error: Exception) -> dict[str, str]:
    """Name, value and traceback as the real worker tells them, also of what cannot be printed.

    That has lines of the code's own only, by number.
    """
    name, value = type(error).__name__, ""
    try:
        value = str(error)
    except BaseException:  # noqa: BLE001 (its own __str__ ran)
        value = "cannot be shown"
    frames = traceback.walk_tb(error.__traceback__)
    lines = [number for frame, number in frames if frame.f_code.co_filename == FILE]
    shown = ["Traceback (most recent call last):\n"] if lines else []
    shown += ['  File "<stdin>", line %d\n' % number for number in lines]
    return {
        "name": text(name, LONGEST_NAME),
        "value": text(value, LONGEST_VALUE),
        "traceback": text("%s%s: %s\n" % ("".join(shown), name, value), LONGEST_TRACEBACK),
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
    sys.stdout, sys.stderr = Stream(1), Stream(2)
    signal.signal(signal.SIGINT, ignore)
    sys.argv = [""]
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]  # and the working directory is not on it in the real daemon either
    Worker(requests, ANSWERS).serve()


if __name__ == "__main__":
    main()
