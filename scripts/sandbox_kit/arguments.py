"""The command lines of the three scripts: one table a script, one row a flag.

A row has the flag's help and its checks. Standard library only; --help and usage errors stop here.
"""

from __future__ import annotations

import argparse
import re

from . import argument_checks as checks
from . import defaults, languages
from .errors import UsageFailure

TYPE_CHECKING = False  # as typing has it: its import costs a --help milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    Check = Callable[[argparse.Namespace], None]


class Flag:
    """One row: a value of that `metavar` (none for a switch), within `bounds`, repeated if `many`.

    `check` raises UsageFailure for what this flag cannot mean, alone or beside others; every check
    runs, whether or not its flag was given.
    """

    def __init__(
        self,
        name: str,
        metavar: str | None = None,
        text: str | None = None,
        *,
        many: bool = False,
        bounds: tuple[int, int] | None = None,
        choices: Sequence[str] | None = None,
        default: int | None = None,
        kind: Callable[[str], object] | None = None,
        required: bool = False,
        check: Check | None = None,
    ) -> None:
        self.name = name
        self.check = check
        self.options: dict[str, Any] = {"help": text}
        if metavar is None:
            self.options["action"] = "store_true"
            return
        self.options |= {"metavar": metavar, "default": [] if many else default}
        if many:
            self.options["action"] = "append"
        if choices is not None:
            self.options["choices"] = choices
        if bounds is not None:
            kind = whole_number_between(*bounds)
        if kind is not None:
            self.options["type"] = kind
        if required:
            self.options["required"] = True


def whole_number_between(least: int, most: int) -> Callable[[str], int]:
    """An argparse type."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def age_in_minutes(text: str) -> int:
    """An argparse type: minutes of 90m, 12h or 3d."""
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 90m, 12h or 3d")
    return int(match[1]) * {"m": 1, "h": 60, "d": 24 * 60}[match[2]]


RUN_HELP = (
    "Create a Daytona sandbox, run something in it, print what it prints, delete the sandbox.\n"
    "Exit code: the program's own; 124 timeout; 125 the tool or Daytona failed; 2 usage;"
    " 130, 143, 129 after a signal.\n"
)
RUN_EXAMPLES = (
    "examples:\n"
    "  run_in_sandbox.py --code 'print(sum(range(100)))'\n"
    "  run_in_sandbox.py --upload . --setup 'pip install -r requirements.txt pytest' --no-network"
    " --command 'pytest -q' --timeout 900\n"
    "  run_in_sandbox.py --upload site --serve 'python3 -m http.server 8000 -d site'"
    " --preview 8000\n"
)
RUN_FLAGS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    (
        "what",
        (
            Flag(
                "--command",
                "CMD",
                "bash script; again for the next step, stops at the first failure",
                many=True,
                check=checks.check_program,
            ),
            Flag("--code", "TEXT", "source code"),
            Flag(
                "--file",
                "PATH",
                ".py, .js, .ts or .sh file here; - reads stdin, also for --code and --command",
            ),
            Flag(
                "--language",
                "L",
                "of --code or --file: python, javascript, typescript",
                choices=languages.NAMES,
                check=checks.check_language,
            ),
            Flag(
                "--stdin",
                "PATH",
                "file for the program's stdin (else empty); - takes ours",
                check=checks.check_stdin_and_arguments,
            ),
            Flag(
                "--each",
                "VALUE",
                "run it once a value, each in a sandbox of its own: first argument and $EACH",
                many=True,
                check=checks.check_many,
            ),
            Flag("--each-file", "PATH", "a value a line"),
            Flag("--jobs", "N", f"at once (default: {defaults.JOBS})", bounds=(1, 50)),
            Flag("--setup", "CMD", "run before, still with the network", many=True),
            Flag("--cwd", "DIR", "working directory, inside"),
            Flag(
                "--env",
                "K=V",
                "variable; NAME alone: from here, if allowed",
                many=True,
                check=checks.check_variables,
            ),
            Flag("--env-file", "PATH", "NAME=VALUE lines", many=True),
            Flag(
                "--secret",
                "ENV=NAME",
                "a secret of Daytona's vault",
                many=True,
                check=checks.check_secrets,
            ),
        ),
    ),
    (
        "files",
        (
            Flag("--upload", "HERE[:THERE]", "file or folder; .gitignore holds", many=True),
            Flag(
                "--download",
                "THERE[:HERE]",
                "file or folder, afterwards (HERE: its last name);"
                " what is no result (code) is kept for sandboxes.py fetch",
                many=True,
            ),
            Flag(
                "--charts",
                "DIR",
                "save matplotlib charts of --code as PNG",
                check=checks.check_charts,
            ),
            Flag("--force", text="replace what an earlier run wrote"),
            Flag(
                "--volume",
                "NAME:/PATH",
                "storage that outlives sandboxes; made where missing",
                many=True,
                check=checks.check_volumes,
            ),
            Flag("--repo", "URL", "clone it to `repo` first", check=checks.check_repository),
            Flag("--branch", "B"),
            Flag("--commit", "SHA"),
            Flag("--depth", "N", bounds=(1, 10**6)),
            Flag(
                "--git-token",
                "NAME",
                "variable here with a token for --repo, if allowed",
                check=checks.check_git_token,
            ),
        ),
    ),
    (
        "network",
        (
            Flag("--no-network", text="none for the program", check=checks.check_network_rule),
            Flag("--allow-domain", "D", "only this one; *.example.org", many=True),
            Flag("--allow-cidr", "C", "only this range", many=True),
            Flag(
                "--preview",
                "PORT",
                "wait for the port, print a signed link; keeps the sandbox",
                bounds=(1, 65535),
                check=checks.check_preview,
            ),
            Flag("--serve", "CMD", "the server behind --preview or --port"),
            Flag(
                "--port",
                "PORT",
                "--serve listens there while the program tests it; then all ends",
                bounds=(1, 65535),
                check=checks.check_tested_server,
            ),
        ),
    ),
    (
        "where",
        (
            Flag("--local", text="local Daytona: no account, weaker isolation"),
            Flag("--snapshot", "NAME", f"{defaults.list_snapshots()}, or your own"),
            Flag("--image", "REF", "build from it (minutes)", check=checks.check_image_and_size),
            Flag("--cpu", "N", bounds=(1, 1024)),
            Flag("--memory", "GIB", bounds=(1, 1024)),
            Flag("--disk", "GIB", "the three only with --image", bounds=(1, 1024)),
            Flag("--target", "REGION"),
            Flag("--label", "K=V", many=True, check=checks.check_labels),
            Flag(
                "--sandbox",
                "ID",
                "an existing one of yours; never deleted",
                check=checks.check_existing_sandbox,
            ),
            Flag("--name", "NAME", "get or create, and keep", check=checks.check_sandbox_name),
            Flag("--keep", text="until the ttl"),
            Flag(
                "--detach",
                text="start and return; see sandboxes.py logs, wait",
                check=checks.check_detached,
            ),
        ),
    ),
    (
        "time",
        (
            Flag(
                "--timeout",
                "S",
                f"of each step (default: {defaults.DEFAULT_TIMEOUT_S})",
                bounds=(1, defaults.LONGEST_TIMEOUT_S),
            ),
            Flag(
                "--ttl",
                "MIN",
                f"the server deletes it then (default: {defaults.DEFAULT_TTL_MIN},"
                f" kept {defaults.KEPT_TTL_MIN})",
                bounds=(1, defaults.LONGEST_TTL_MIN),
                check=checks.check_deadlines,
            ),
            Flag("--auto-stop", "MIN", "when idle; 0: never", bounds=(0, defaults.LONGEST_TTL_MIN)),
        ),
    ),
    (
        "output",
        (
            Flag("--json", text="one JSON object"),
            Flag(
                "--max-output",
                "N",
                f"characters a stream, head and tail"
                f" (default: {defaults.DEFAULT_MAX_OUTPUT}; 0: all, raw)",
                bounds=(0, 10**9),
                default=defaults.DEFAULT_MAX_OUTPUT,
            ),
            Flag("--quiet", check=checks.check_narration),
            Flag("--verbose"),
            Flag("--debug", text="tracebacks"),
            Flag("--dry-run", text="print the create request, send nothing"),
        ),
    ),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and what to type in the next, and prints no usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, fix=f"{self.prog} --help shows what there is")


class OneLineAFlag(argparse.RawDescriptionHelpFormatter):
    """A model reads --help and pays for every blank: one line a flag, no columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, indent_increment=1, max_help_position=4, width=200)

    def _format_action(self, action: argparse.Action) -> str:
        flag = " " * self._current_indent + self._format_action_invocation(action)
        text = f"  {self._expand_help(action)}" if action.help else ""
        return f"{flag}{text}\n"


def parse_run_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Flags that do not contradict each other; what follows `--` is the program's.

    Raises UsageFailure, or SystemExit(0) after --help.
    """
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    given = make_run_parser().parse_args(words[:cut])
    given.arguments = tuple(words[cut + 1 :])
    for _, flags in RUN_FLAGS:
        for flag in flags:
            if flag.check is not None:
                flag.check(given)
    return given


def make_run_parser() -> Parser:
    parser = Parser(
        prog="run_in_sandbox.py",
        usage="run_in_sandbox.py [flags] [-- arguments of the program]",
        description=RUN_HELP,
        epilog=RUN_EXAMPLES,
        formatter_class=OneLineAFlag,
        allow_abbrev=False,
    )
    for title, flags in RUN_FLAGS:
        add_flags(parser.add_argument_group(title), flags)
    return parser


def add_flags(group: argparse._ActionsContainer, flags: Sequence[Flag]) -> None:
    for flag in flags:
        group.add_argument(flag.name, **flag.options)


class Verb:
    """One row of sandboxes.py: what it does, how its targets are called, and its own flags."""

    def __init__(
        self,
        name: str,
        text: str,
        *flags: Flag,
        targets: str | int | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.flags = flags
        self.targets = targets


VERBS = (
    Verb(
        "list",
        "what this skill made, and whose it is",
        Flag("--all", text="the account's others too"),
    ),
    Verb("info", "one sandbox in full", targets=1),
    Verb(
        "logs",
        "what the program of --detach or --serve printed so far",
        Flag("--max-output", "N", bounds=(0, 10**9), default=defaults.DEFAULT_MAX_OUTPUT),
        targets=1,
    ),
    Verb(
        "wait",
        "until the program of --detach ends; with its exit code",
        Flag(
            "--timeout",
            "S",
            "give up after so many seconds",
            bounds=(1, defaults.LONGEST_TIMEOUT_S),
        ),
        targets=1,
    ),
    Verb("shell", "a terminal in it, for people", targets=1),
    Verb(
        "extend",
        "let it live longer",
        Flag(
            "--ttl",
            "MIN",
            "from now on",
            bounds=(1, defaults.LONGEST_TTL_MIN),
            required=True,
        ),
        Flag("--auto-stop", "MIN", "when idle; 0: never", bounds=(0, defaults.LONGEST_TTL_MIN)),
        targets=1,
    ),
    Verb("snapshot", "make a snapshot of it, for --snapshot NAME", targets=1),
    Verb("snapshots", "what `snapshot` made", Flag("--delete", "NAME", many=True)),
    Verb("volumes", "what --volume made", Flag("--delete", "NAME", many=True)),
    Verb("stop", "stop, keeping the files", targets="+"),
    Verb("delete", "delete", targets="+"),
    Verb(
        "prune",
        "delete what is older than an age; only shows it without --yes",
        Flag("--older-than", "AGE", "such as 90m, 12h, 3d", kind=age_in_minutes, required=True),
        Flag("--yes", text="really delete"),
    ),
    Verb(
        "fetch",
        "bring what a run held back to here, code too, or what lies in a sandbox;"
        " without THERE: show what a run holds",
        Flag("--force", text="overwrite files here"),
    ),
    Verb(
        "adopt",
        "make a sandbox yours: these scripts may use and delete it from then on",
        Flag("--volume", text="a volume of that name in its place"),
        targets=1,
    ),
    Verb(
        "publish",
        "let everybody open every port of a sandbox, without a token",
        Flag("--port", "PORT", "print its link too", bounds=(1, 65535)),
        Flag("--off", text="close it again"),
        targets=1,
    ),
)
COMMON_FLAGS = (
    Flag("--local", text="on local Daytona"),
    Flag("--json", text="print one JSON object"),
    Flag("--debug", text="show tracebacks"),
)


def parse_sandboxes_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Raises UsageFailure, or SystemExit(0) after --help."""
    return make_sandboxes_parser().parse_args(argv)


def make_sandboxes_parser() -> Parser:
    parser = Parser(
        prog="sandboxes.py",
        allow_abbrev=False,
        description="Find, watch and delete what this skill made for you"
        " (labels managed-by and user-id); nothing else is touched.",
    )
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    for verb in VERBS:
        action = actions.add_parser(
            verb.name, help=verb.text, description=verb.text, allow_abbrev=False
        )
        if verb.targets is not None:
            action.add_argument("targets", nargs=verb.targets, metavar="ID", help="id or name")
        if verb.name == "snapshot":
            action.add_argument("name", metavar="NAME", help="of the snapshot")
        if verb.name == "fetch":
            action.add_argument(
                "run_id",
                metavar="RUN",
                help="as the run's last lines name it, or a sandbox's id or name",
            )
            action.add_argument(
                "pairs", nargs="*", metavar="THERE[:HERE]", help="path in the sandbox, and here"
            )
        add_flags(action, (*verb.flags, *COMMON_FLAGS))
    return parser


def parse_health_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Raises UsageFailure, or SystemExit(0) after --help."""
    parser = Parser(
        prog="healthcheck.py",
        allow_abbrev=False,
        description="Can I use Daytona here, by which path, and what to fix.",
        epilog="Verdicts and exit codes: READY 0, LOCAL ONLY 3, CLI ONLY 4, NOT READY 5."
        " --install ends with 0 when the environment works.",
    )
    add_flags(
        parser,
        (
            Flag("--install", text="make or repair the skill's own environment first"),
            Flag("--json", text="print one JSON object"),
        ),
    )
    return parser.parse_args(argv)
