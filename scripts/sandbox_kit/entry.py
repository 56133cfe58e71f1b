"""From a command line to its exit code: parse, enter the skill's environment, hand over.

What --help and usage errors do not need is imported in the functions, after the flags were read:
so these two answer at once.
"""

from __future__ import annotations

import sys

from .console import LostOutput, prepare_streams, print_failure, silence_stream, write_quietly
from .errors import TOOL_FAILED, Failure

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Main(Protocol):
        """A script's main, as a test calls it too."""

        def __call__(self, argv: Sequence[str] | None = None) -> int: ...


SIGINT, SIGTERM = 2, 15


class Terminated(KeyboardInterrupt):
    """SIGTERM before anything was created: as Ctrl-C then."""

    number = SIGTERM


def raise_on_sigterm() -> Any:
    """What was done with it before; None where this is no main thread, or somebody ignores it."""
    import signal

    def receive(_number: int, _frame: object) -> None:
        raise Terminated

    try:
        if signal.getsignal(SIGTERM) is signal.SIG_DFL:
            return signal.signal(SIGTERM, receive)
    except ValueError:
        pass
    return None


def restore_sigterm(before: Any) -> None:
    if before is not None:
        import signal

        signal.signal(SIGTERM, before)


def quiet_at_the_end(main: Main) -> Main:
    """No traceback for Ctrl-C before anything was created, nor for a reader that goes away."""

    def run(argv: Sequence[str] | None = None) -> int:
        before = raise_on_sigterm()
        try:
            code = main(argv)
            return code or print_lost_output() or code
        except KeyboardInterrupt as interrupt:
            from .interrupts import interruption

            number = interrupt.number if isinstance(interrupt, Terminated) else SIGINT
            return print_and_exit_code(interruption(number))
        except BrokenPipeError:  # `… | head -1`
            silence_stream(sys.stdout)
            return TOOL_FAILED
        # Python's own end would be a traceback and exit code 1, as a program's.
        except Exception as error:  # noqa: BLE001
            from .errors import as_failure

            return print_lost_output() or print_and_exit_code(as_failure(error))
        finally:
            restore_sigterm(before)

    run.__doc__ = main.__doc__
    return run


@quiet_at_the_end
def run_in_sandbox(argv: Sequence[str] | None = None) -> int:
    """run_in_sandbox.py."""
    words = read_words(argv)
    try:
        from .arguments import parse_run_arguments

        given = parse_run_arguments(words)
        enter_environment()
        from .host_access import HostAccess
        from .request import read_run_request

        access = HostAccess.of()
        request = read_run_request(given, access)
    except Failure as failure:
        return refuse_run(failure, as_json="--json" in words)
    from .single_run import SingleRun

    return SingleRun(request, access).execute()


@quiet_at_the_end
def sandboxes(argv: Sequence[str] | None = None) -> int:
    """sandboxes.py."""
    words = read_words(argv)
    try:
        from .arguments import parse_sandboxes_arguments

        given = parse_sandboxes_arguments(words)
        enter_environment()
        from .inventory import run_verb
        from .request import SandboxesRequest

        return run_verb(SandboxesRequest.of(given))
    except Failure as failure:
        if "--json" in words:
            print_json({"engine": None, "sandboxes": [], "error": failure.as_json()})
        return print_and_exit_code(failure)


@quiet_at_the_end
def healthcheck(argv: Sequence[str] | None = None) -> int:
    """healthcheck.py; it must work without the environment too, to say what is missing."""
    words = read_words(argv)
    try:
        from .arguments import parse_health_arguments

        given = parse_health_arguments(words)
        from .health import install_environment, report_health

        if given.install:
            return install_environment(as_json=given.json)
        enter_environment_if_there()
        try:
            return report_health(as_json=given.json)
        except BrokenPipeError:
            raise
        except OSError as error:  # of its prints: each look has its own row for what fails
            from .errors import output_lost

            silence_stream(sys.stdout)
            raise output_lost(error.strerror) from None
    except Failure as failure:
        if "--json" in words:
            print_json(
                {"verdict": "NOT READY", "engine": None, "checks": [], "error": failure.as_json()}
            )
        return print_and_exit_code(failure)


def print_lost_output() -> int | None:
    """The exit code where stdout took nothing, as a full disk does; None where it took all."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:  # it is closed already
        pass
    except OSError as error:
        LostOutput.why = error.strerror
        silence_stream(sys.stdout)
    if LostOutput.why is None:
        return None
    from .errors import output_lost

    return print_and_exit_code(output_lost(LostOutput.why))


def read_words(argv: Sequence[str] | None) -> list[str]:
    prepare_streams()
    return list(sys.argv[1:] if argv is None else argv)


def enter_environment() -> None:
    """Go on in an interpreter that has the SDK; raises Failure sdk_missing or sdk_version."""
    import skill_env

    try:
        skill_env.enter()
    except skill_env.NotInstalled as missing:
        raise Failure(missing.kind, str(missing), fix=missing.fix) from None


def enter_environment_if_there() -> None:
    """As `enter`; that nothing is there is a row of the healthcheck's own."""
    try:  # noqa: SIM105  contextlib would be imported for this alone
        enter_environment()
    except Failure:
        pass


def refuse_run(failure: Failure, *, as_json: bool) -> int:
    """A run that ends before anything was created, in the same JSON as any other."""
    if as_json:
        from .report import RunReport

        print_json(RunReport(failure=failure).as_json(None))
    whose = f"exit code {TOOL_FAILED} is this tool's, nothing was run: "
    print_failure(
        (whose if failure.exit_code == TOOL_FAILED else "") + failure.message, failure.fix
    )
    return failure.exit_code


def print_json(answer: dict[str, Any]) -> None:
    import json

    write_quietly(sys.stdout, json.dumps(answer) + "\n")


def print_and_exit_code(failure: Failure) -> int:
    print_failure(failure.message, failure.fix)
    return failure.exit_code
