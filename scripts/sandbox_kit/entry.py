"""From a command line to its exit code: parse, enter the skill's environment, hand over. Heavy imports come after that."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import skill_env

from .failures import SIGNAL_BASE, TOOL_FAILED, Failure
from .options import RunOptions, parse_health, parse_run, parse_sandboxes
from .output import Narrator, silence, use_utf8, write_quietly
from .report import Collected, Report

P = ParamSpec("P")


def quiet_at_the_end(main: Callable[P, int]) -> Callable[P, int]:
    """Neither Ctrl-C before anything was created nor a reader that goes away is worth a traceback."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            return SIGNAL_BASE + signal.SIGINT
        except BrokenPipeError:  # `… | head -1`
            silence(sys.stdout)
            return TOOL_FAILED

    return run


@quiet_at_the_end
def run_in_sandbox(argv: Sequence[str] | None = None) -> int:
    """run_in_sandbox.py."""
    words = words_of(argv)
    try:
        options = parse_run(words)
        enter()
        from . import inputs
        from .host_access import HostAccess

        access = HostAccess.of()
        options = inputs.gather(options, access)
    except Failure as failure:
        return refuse_run(failure, as_json="--json" in words)
    from .run import Run

    return Run(options, access).to_the_end()


@quiet_at_the_end
def sandboxes(argv: Sequence[str] | None = None) -> int:
    """sandboxes.py."""
    words = words_of(argv)
    try:
        options = parse_sandboxes(words)
        enter()
        from . import inventory

        return inventory.main(options)
    except Failure as failure:
        if "--json" in words:
            print_json({"engine": None, "sandboxes": [], "error": failure.as_json()})
        return complain(failure)


@quiet_at_the_end
def healthcheck(argv: Sequence[str] | None = None) -> int:
    """healthcheck.py; it must work without the environment too, to say what is missing."""
    words = words_of(argv)
    try:
        options = parse_health(words)
        from . import health

        if options.install:
            return health.install(options)
        with contextlib.suppress(skill_env.NotInstalled):  # the SDK's row tells it
            skill_env.enter()
        return health.report(options)
    except Failure as failure:
        if "--json" in words:
            print_json({"verdict": "NOT READY", "engine": None, "checks": [], "error": failure.as_json()})
        return complain(failure)


def words_of(argv: Sequence[str] | None) -> list[str]:
    use_utf8()
    return list(sys.argv[1:] if argv is None else argv)


def enter() -> None:
    """Go on in an interpreter that has the SDK; raises Failure sdk_missing or sdk_version."""
    try:
        skill_env.enter()
    except skill_env.NotInstalled as missing:
        raise Failure(missing.kind, str(missing), fix=missing.fix) from None


def refuse_run(failure: Failure, *, as_json: bool) -> int:
    """A run that ends before anything was created, in the same JSON as any other."""
    if as_json:
        nothing = Collected(RunOptions(json=True), run_id="none", secrets=())
        print_json(Report(failure=failure).as_json(nothing))
    return complain(failure)


def print_json(answer: dict[str, Any]) -> None:
    write_quietly(sys.stdout, json.dumps(answer) + "\n")


def complain(failure: Failure) -> int:
    Narrator().fail(failure.message, failure.fix)
    return failure.exit_code
