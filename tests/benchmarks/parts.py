"""The parts of a report by name, apart from `__main__`: a process of its own imports them."""

from __future__ import annotations

from .engine import engine
from .fanout import fanout
from .measure import Row
from .output import output
from .scripts import account, plain_run, start, steps
from .transfer import transfer

PARTS = {
    "start": start,
    "run": plain_run,
    "engine": engine,
    "steps": steps,
    "fanout": fanout,
    "transfer": transfer,
    "output": output,
    "account": account,
}


def rows_of(name: str) -> list[Row]:
    """In a process of its own.

    What one part imported would count as peak memory of every program that the next one starts.
    """
    return list(PARTS[name]())
