"""The command lines of the three scripts: text to frozen dataclasses. Standard library only; --help and usage errors stop here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from .failures import UsageFailure

LANGUAGES = ("python", "javascript", "typescript")
DEFAULT_TIMEOUT_S = 300
DEFAULT_TTL_MIN = 60
KEPT_TTL_MIN = 240
SETUP_MARGIN_MIN = 10  # cloning and starting happen inside the ttl as well
AUTO_STOP_MIN = 15
AUTO_STOP_MARGIN_MIN = 5
DEFAULT_MAX_OUTPUT = 16_000
LONGEST_TIMEOUT_S = 7 * 24 * 3600
LARGER_SNAPSHOTS = "--snapshot daytona-medium (2 vCPU, 4 GiB) or daytona-large (4 vCPU, 8 GiB)"
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SANDBOX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

RUN_HELP = """\
Create a Daytona sandbox, run one command or piece of code in it, print what it prints, delete the sandbox.
Exit code: the program's own; 124 timeout; 125 the tool or Daytona failed; 2 usage; 130, 143, 129 after a signal.
"""
RUN_EXAMPLES = """\
examples:
  run_in_sandbox.py --code "print(sum(range(100)))"
  run_in_sandbox.py --local --command "python3 --version && uname -a"
  run_in_sandbox.py --repo https://github.com/org/project.git --command "cd repo && make test" --timeout 900
  run_in_sandbox.py --name work --command "pip install pytest"    (kept; use it again with the same --name)
"""


@dataclass(frozen=True)
class RunOptions:
    """What run_in_sandbox.py was asked to do. Times carry their unit; sizes are GiB."""

    command: str | None = None
    code: str | None = None
    file: str | None = None
    language: str | None = None
    image: str | None = None
    snapshot: str | None = None
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    env: dict[str, str] = field(default_factory=dict, repr=False)
    env_names: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    repo: str | None = None
    branch: str | None = None
    timeout_s: int = DEFAULT_TIMEOUT_S
    ttl_min: int = DEFAULT_TTL_MIN
    keep: bool = False
    sandbox: str | None = None
    name: str | None = None
    local: bool = False
    json: bool = False
    max_output: int = DEFAULT_MAX_OUTPUT
    quiet: bool = False
    debug: bool = False

    @property
    def keeps(self) -> bool:
        """Whether the sandbox outlives this run."""
        return self.keep or self.name is not None or self.sandbox is not None

    @property
    def auto_stop_min(self) -> int:
        return max(AUTO_STOP_MIN, minutes(self.timeout_s) + AUTO_STOP_MARGIN_MIN)


@dataclass(frozen=True)
class ListOptions:
    """What sandboxes.py was asked to do."""

    action: str
    targets: tuple[str, ...] = ()
    local: bool = False
    json: bool = False
    debug: bool = False


@dataclass(frozen=True)
class HealthOptions:
    """What healthcheck.py was asked to do."""

    install: bool = False
    json: bool = False


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and what to type in the next, instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, fix=f"{self.prog} --help shows what there is")


def minutes(seconds: int) -> int:
    """Whole minutes that hold `seconds`."""
    return -(-seconds // 60)


def run_parser() -> Parser:
    parser = Parser(
        prog="run_in_sandbox.py",
        description=RUN_HELP,
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_what(parser.add_argument_group("what to run (one of --command, --code, --file)"))
    _add_where(parser.add_argument_group("where"))
    _add_how_long(parser.add_argument_group("how long"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--command", metavar="CMD", help="a bash script; stdin is empty")
    group.add_argument("--code", metavar="TEXT", help="source code")
    group.add_argument("--file", metavar="PATH", help="source code from a file here: .py, .js, .ts, .sh")
    group.add_argument("--language", choices=LANGUAGES, help="of --code or --file (default: python, or by the file's ending)")
    group.add_argument(
        "--env", metavar="K=V", action="append", default=[], help="variable of the program; NAME alone: from here, if allowed"
    )
    group.add_argument("--env-file", metavar="PATH", action="append", default=[], help="NAME=VALUE lines from a file here")
    group.add_argument("--repo", metavar="URL", help="clone it first, to `repo` in the working directory")
    group.add_argument("--branch", metavar="NAME", help="branch of --repo")


def _add_where(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--local", action="store_true", help="use local Daytona on this machine: no account, weaker isolation")
    group.add_argument(
        "--snapshot", metavar="NAME", help="what to start from (default: the server's); sizes: daytona-small, -medium, -large"
    )
    group.add_argument("--image", metavar="REF", help="build from this image instead (minutes; another user, other tools)")
    for name, unit in (("cpu", "vCPUs"), ("memory", "GiB"), ("disk", "GiB")):
        group.add_argument(f"--{name}", metavar="N", type=whole(1, 1024), help=f"{unit}; only with --image")
    group.add_argument("--sandbox", metavar="ID", help="run in this existing sandbox; it is never deleted")
    group.add_argument("--name", metavar="NAME", help="get or create the sandbox of this name, and keep it")
    group.add_argument("--keep", action="store_true", help="do not delete the sandbox; the ttl still does")


def _add_how_long(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--timeout",
        metavar="S",
        type=whole(1, LONGEST_TIMEOUT_S),
        default=DEFAULT_TIMEOUT_S,
        help="seconds for the program (default: %(default)s)",
    )
    group.add_argument(
        "--ttl", metavar="MIN", type=whole(1, 60 * 24 * 30),
        help=f"minutes until the server deletes the sandbox whatever happens (default: {DEFAULT_TTL_MIN}, kept: {KEPT_TTL_MIN})",
    )  # fmt: skip


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print one JSON object instead")
    group.add_argument(
        "--max-output", metavar="N", type=whole(0, 10**9), default=DEFAULT_MAX_OUTPUT,
        help="characters shown of each stream, head and tail (default: %(default)s; 0: all, raw)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="narrate less")
    group.add_argument("--debug", action="store_true", help="show tracebacks")


def whole(least: int, most: int) -> type[int]:
    """An argparse type: a whole number between two bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number  # type: ignore[return-value]  # argparse takes any callable, its stubs want a type


def parse_run(argv: Sequence[str] | None = None) -> RunOptions:
    """Raises UsageFailure with the fix; SystemExit(0) after --help."""
    given = run_parser().parse_args(argv)
    refuse_conflicts(given)
    return RunOptions(
        command=given.command,
        code=given.code,
        file=given.file,
        language=given.language or ("python" if given.code is not None else None),
        image=given.image,
        snapshot=given.snapshot,
        cpu=given.cpu,
        memory=given.memory,
        disk=given.disk,
        env=dict(variable(text) for text in given.env if "=" in text),
        env_names=tuple(variable_name(text) for text in given.env if "=" not in text),
        env_files=tuple(given.env_file),
        repo=given.repo,
        branch=given.branch,
        timeout_s=given.timeout,
        ttl_min=ttl(given),
        keep=given.keep,
        sandbox=given.sandbox,
        name=given.name,
        local=given.local,
        json=given.json,
        max_output=given.max_output,
        quiet=given.quiet,
        debug=given.debug,
    )


def refuse_conflicts(given: argparse.Namespace) -> None:
    """Combinations that cannot mean anything, each with the way out; raises UsageFailure."""
    if sum(source is not None for source in (given.command, given.code, given.file)) > 1:
        raise UsageFailure("--command, --code and --file exclude each other", fix="use one of them; a command may start any interpreter")
    if not (given.command or given.code or given.file or "").strip():
        raise UsageFailure("nothing to run", fix='--command "...", --code "..." or --file PATH')
    if given.language and given.command is not None:
        raise UsageFailure("--language says what --code is written in", fix="leave it out, or use --code")
    if given.local and given.language == "typescript":
        raise UsageFailure("local Daytona runs python and javascript", fix="compile it to javascript, or leave out --local")
    if given.branch and not given.repo:
        raise UsageFailure("--branch is a branch of --repo", fix="--repo URL --branch NAME")
    if given.repo is not None:
        refuse_odd_repository(given.repo)
    refuse_resources(given)
    refuse_choices_for_existing(given)
    if given.name is not None and not SANDBOX_NAME.fullmatch(given.name):
        raise UsageFailure(
            f"--name {given.name!r} is not a sandbox name", fix="letters, digits, dots, dashes and underscores, such as --name work-1"
        )


def refuse_odd_repository(url: str) -> None:
    """A URL that carries a password would be stored in the sandbox; one that is no URL is not cloned."""
    if re.match(r"https?://[^/]*@", url):
        raise UsageFailure("--repo must not carry credentials", fix="use the address without user and password")
    if not re.match(r"https?://[^\s/]+/\S+$", url):
        raise UsageFailure("--repo takes an http or https address", fix="--repo https://github.com/org/project.git")


def refuse_resources(given: argparse.Namespace) -> None:
    if given.image and given.snapshot:
        raise UsageFailure("--image and --snapshot exclude each other", fix="use --snapshot: it starts at once")
    if (given.cpu or given.memory or given.disk) and not given.image:
        raise UsageFailure("--cpu, --memory and --disk only work with --image: a snapshot has its size", fix=LARGER_SNAPSHOTS)


def refuse_choices_for_existing(given: argparse.Namespace) -> None:
    """An existing sandbox has its image, size and lifetime already."""
    if given.sandbox is None:
        return
    for flag in ("name", "image", "snapshot", "ttl", "keep"):
        if getattr(given, flag):
            raise UsageFailure(f"--{flag} cannot change the existing sandbox of --sandbox", fix=f"leave out --{flag}")


def ttl(given: argparse.Namespace) -> int:
    """Minutes of the sandbox's life; raises UsageFailure when the user's own are too few for the timeout."""
    needed = minutes(given.timeout) + SETUP_MARGIN_MIN
    if given.ttl is not None and given.ttl < needed:
        raise UsageFailure(f"--ttl {given.ttl} ends before --timeout {given.timeout} can", fix=f"--ttl {needed}")
    usual = KEPT_TTL_MIN if given.keep or given.name else DEFAULT_TTL_MIN
    return int(given.ttl or max(usual, needed))


def variable(text: str) -> tuple[str, str]:
    """NAME and value of K=V; the value is never repeated in a message."""
    name, _, value = text.partition("=")
    return variable_name(name), value


def variable_name(name: str) -> str:
    if not ENV_NAME.fullmatch(name):
        raise UsageFailure("--env: a variable's name has letters, digits and underscores, no digit first", fix="--env NAME=VALUE")
    return name


def parse_list(argv: Sequence[str] | None = None) -> ListOptions:
    """sandboxes.py: raises UsageFailure with the fix."""
    parser = Parser(
        prog="sandboxes.py", description="Find and delete what this skill made (label managed-by=daytona-sandbox).", allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    listing = actions.add_parser("list", help="sandboxes that this skill made", allow_abbrev=False)
    deleting = actions.add_parser("delete", help="delete sandboxes that this skill made", allow_abbrev=False)
    deleting.add_argument("targets", nargs="+", metavar="ID", help="id or name")
    for action in (listing, deleting):
        action.add_argument("--local", action="store_true", help="on local Daytona")
        action.add_argument("--json", action="store_true", help="print one JSON object")
        action.add_argument("--debug", action="store_true", help="show tracebacks")
    given = parser.parse_args(argv)
    return ListOptions(given.action, tuple(getattr(given, "targets", ())), given.local, given.json, given.debug)


def parse_health(argv: Sequence[str] | None = None) -> HealthOptions:
    """healthcheck.py: raises UsageFailure with the fix."""
    parser = Parser(
        prog="healthcheck.py", allow_abbrev=False,
        description="Can I use Daytona here, by which path, and what to fix.",
        epilog="Verdicts and exit codes: READY 0, LOCAL ONLY 3, CLI ONLY 4, NOT READY 5. --install ends with 0 when the environment works.",
    )  # fmt: skip
    parser.add_argument("--install", action="store_true", help="make or repair the skill's own environment first")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    return HealthOptions(given.install, given.json)
