"""sandboxes.py shell: an interactive terminal in a sandbox, for people.

What the sandbox prints reaches the terminal as it is, as with ssh: that is what it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import skill_env

from .errors import Failure, UsageFailure
from .sdk import Sandbox
from .sdk.terminal import Terminal, TerminalSize

READ_AT_ONCE = 65536


async def run_shell(sandbox: Sandbox, *, local: bool) -> int:
    """Until its shell ends; that one's exit code. Raises Failure."""
    if not (sys.stdin and sys.stdout and sys.stdin.isatty() and sys.stdout.isatty()):
        words = ["--sandbox", sandbox.info.id, "--command", "CMD", *["--local"] * local]
        raise UsageFailure(
            "shell needs a terminal, and this is none",
            fix=skill_env.command("run_in_sandbox.py", *words),
        )
    with raw_terminal(sys.stdin.fileno()):
        async with sandbox.open_terminal(current_size()) as terminal:
            return await talk(terminal)


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Keys as they are typed; the terminal is as it was afterwards, whatever happens."""
    try:
        import termios
        import tty
    except ImportError:
        raise UsageFailure(
            "shell needs a terminal of Linux or macOS",
            fix="run_in_sandbox.py --sandbox ID --command CMD",
        ) from None
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def current_size() -> TerminalSize:
    found = os.get_terminal_size(sys.stdout.fileno())
    return TerminalSize(max(1, found.columns), max(1, found.lines))


async def talk(terminal: Terminal) -> int:
    """Keys there, output here, sizes as they change."""
    loop, keys = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    stdin = sys.stdin.fileno()

    def take_keys() -> None:
        try:
            typed = os.read(stdin, READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone
            typed = b""
        if not typed:
            loop.remove_reader(stdin)
        keys.put_nowait(typed)

    loop.add_reader(stdin, take_keys)
    resized = asyncio.Event()
    with contextlib.suppress(ValueError, RuntimeError):
        loop.add_signal_handler(signal.SIGWINCH, resized.set)
    reading = asyncio.ensure_future(terminal.read_until_end(show))
    typing = asyncio.ensure_future(send_keys(terminal, keys))
    tasks = [reading, typing, asyncio.ensure_future(send_sizes(terminal, resized))]
    try:
        done, _ = await asyncio.wait({reading, typing}, return_when=asyncio.FIRST_COMPLETED)
        if reading not in done and typing.exception() is None:
            raise Failure("interrupted", "the terminal is gone", fix="open the shell again")
        return await reading
    finally:
        loop.remove_reader(stdin)
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGWINCH)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def show(data: bytes) -> None:
    sys.stdout.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


async def send_keys(terminal: Terminal, keys: asyncio.Queue[bytes]) -> None:
    """Returns when the terminal has no more of them."""
    while data := await keys.get():
        await terminal.send(data)


async def send_sizes(terminal: Terminal, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        with contextlib.suppress(Failure):
            await terminal.resize(current_size())
