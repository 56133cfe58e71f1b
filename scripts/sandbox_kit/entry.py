"""From a command line to its exit code: parse, enter the skill's environment, hand over. Heavy imports come after that."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import skill_env

from .failures import TOOL_FAILED, Failure
from .options import RunOptions, parse_health, parse_list, parse_run
from .output import Narrator, silence, use_utf8, write_quietly
from .report import Collected, Report


def run_in_sandbox(argv: Sequence[str] | None = None) -> int:
    """run_in_sandbox.py."""
    words = words_of(argv)
    try:
        options = parse_run(words)
        enter()
    except Failure as failure:
        return refuse_run(failure, as_json="--json" in words)
    from .run import Run

    return Run(options).to_the_end()


def sandboxes(argv: Sequence[str] | None = None) -> int:
    """sandboxes.py."""
    words = words_of(argv)
    try:
        options = parse_list(words)
        enter()
        from . import inventory

        return inventory.main(options)
    except BrokenPipeError:
        return reader_went_away()
    except Failure as failure:
        if "--json" in words:
            print_json({"engine": None, "sandboxes": [], "error": failure.as_json()})
        return complain(failure)


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
    except BrokenPipeError:
        return reader_went_away()
    except Failure as failure:
        if "--json" in words:
            print_json({"verdict": "NOT READY", "engine": None, "checks": [], "error": failure.as_json()})
        return complain(failure)


def reader_went_away() -> int:
    """`… | head -1`: nothing is left to say, and nobody to say it to."""
    silence(sys.stdout)
    return TOOL_FAILED


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
