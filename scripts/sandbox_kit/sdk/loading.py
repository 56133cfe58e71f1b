"""Before the SDK is imported: is it there in the right version, and what may it read.

Also how it is imported cheaply.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Iterator

import skill_env

from ..errors import Failure, translate_error
from ..settings import Settings, refuse_broken_proxy


@contextlib.contextmanager
def translating_errors(doing: str) -> Iterator[None]:
    """Whatever the SDK raises in the block as a Failure; cancellation passes."""
    try:
        yield
    except Exception as error:
        raise translate_error(error, doing) from error


def require_sdk() -> None:
    """Raises Failure sdk_missing or sdk_version, by package metadata."""
    import sys

    problem = skill_env.problem(sys.path)
    if problem is not None:
        raise Failure(problem.kind, str(problem), fix=problem.fix)


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Import under a paused garbage collector and freeze what came.

    This saves a quarter of the import's time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def prepare_environment(settings: Settings) -> None:
    """Set what the SDK's libraries read from the process.

    No chatter, no proxy in front of loopback, no password of a netrc beside our key. Raises Failure
    network for a proxy that cannot be one.
    """
    os.environ["NETRC"] = os.devnull
    if settings.engine == "local":
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    if settings.engine != "none":
        refuse_broken_proxy(settings.endpoint, os.environ)
    for name in ("asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
