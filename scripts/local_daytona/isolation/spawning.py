"""Programs inside with pipes to this server: started in one way, whatever talks to them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .agent_client import AgentClient, RunningProgram

MERGED, APART = (0, 0), (0, 1)  # stdout and stderr, by the number of their pipe
NULL = -1


@dataclass(frozen=True)
class Spawned:
    """A program with the server's ends of its pipes, which the caller closes.

    `stdin` is NULL when it has none to write to.
    """

    running: RunningProgram
    stdin: int
    outputs: tuple[int, ...]


async def spawn(
    agent: AgentClient,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: str,
    stdin: bool = False,
    outputs: Sequence[int] = (NULL, NULL),
) -> Spawned:
    """Start a program.

    `outputs` says for each of its descriptors from 1 on into which pipe it writes; what is NULL,
    and a stdin that is not asked for, leads nowhere. Raises FileProblem, SandboxGone, ValueError.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        null = kept(theirs, os.open(os.devnull, os.O_RDWR))
        stdin_theirs, stdin_ours = kept_pipe(theirs, ours) if stdin else (null, NULL)
        pipes = [kept_pipe(ours, theirs) for _ in range(max(outputs) + 1)]
        written = (null if number == NULL else pipes[number][1] for number in outputs)
        stdio = (stdin_theirs, *written)
        running = await agent.exec(argv, stdio=stdio, environment=environment, cwd=cwd)
        ours.pop_all()
    return Spawned(running, stdin_ours, tuple(read_end for read_end, _ in pipes))


def kept_pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe's ends for reading and writing, each closed by its stack."""
    read_end, write_end = os.pipe()
    return kept(reader, read_end), kept(writer, write_end)


def kept(stack: contextlib.ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
