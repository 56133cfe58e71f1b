"""The flags of the three scripts: one parser each, and what --help says. What a combination means is in `conflicts` and `options`."""

from __future__ import annotations

import argparse
import re

from .defaults import (
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_MIN,
    KEPT_TTL_MIN,
    LANGUAGES,
    LONGEST_TIMEOUT_S,
    LONGEST_TTL_MIN,
)
from .errors import UsageFailure

TYPE_CHECKING = False  # as typing has it: its import costs a --help milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

RUN_HELP = """\
Create a Daytona sandbox, run something in it, print what it prints, delete the sandbox.
Exit code: the program's own; 124 timeout; 125 the tool or Daytona failed; 2 usage; 130, 143, 129 after a signal.
"""
RUN_EXAMPLES = """\
examples:
  run_in_sandbox.py --code 'print(sum(range(100)))'
  run_in_sandbox.py --upload . --setup 'pip install -r requirements.txt pytest' --no-network --command 'pytest -q' --timeout 900
  run_in_sandbox.py --upload site --serve 'python3 -m http.server 8000 -d site' --preview 8000
"""
# (flag, metavar or type, help), in the order of --help; a list stands for a flag that can be given again.
WHAT: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--command",
        {
            "metavar": "CMD",
            "action": "append",
            "help": "bash script; again for the next step, stops at the first failure",
        },
    ),
    ("--code", {"metavar": "TEXT", "help": "source code"}),
    (
        "--file",
        {
            "metavar": "PATH",
            "help": ".py, .js, .ts or .sh file here; - reads stdin, also for --code and --command",
        },
    ),
    (
        "--language",
        {
            "choices": LANGUAGES,
            "metavar": "L",
            "help": "of --code or --file: python, javascript, typescript",
        },
    ),
    ("--stdin", {"metavar": "PATH", "help": "file for the program's stdin (else empty)"}),
    (
        "--setup",
        {
            "metavar": "CMD",
            "action": "append",
            "default": [],
            "help": "run before, still with the network",
        },
    ),
    ("--cwd", {"metavar": "DIR", "help": "working directory, inside"}),
    (
        "--env",
        {
            "metavar": "K=V",
            "action": "append",
            "default": [],
            "help": "variable; NAME alone: from here, if allowed",
        },
    ),
    (
        "--env-file",
        {"metavar": "PATH", "action": "append", "default": [], "help": "NAME=VALUE lines"},
    ),
    (
        "--secret",
        {
            "metavar": "ENV=NAME",
            "action": "append",
            "default": [],
            "help": "a secret of Daytona's vault",
        },
    ),
)
FILES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--upload",
        {
            "metavar": "HERE[:THERE]",
            "action": "append",
            "default": [],
            "help": "file or folder; .gitignore holds",
        },
    ),
    (
        "--download",
        {
            "metavar": "THERE[:HERE]",
            "action": "append",
            "default": [],
            "help": "file or folder, afterwards (HERE: its last name); what is no result (code) is kept for sandboxes.py fetch",
        },
    ),
    ("--charts", {"metavar": "DIR", "help": "save matplotlib charts of --code as PNG"}),
    ("--force", {"action": "store_true", "help": "replace what an earlier run wrote"}),
    ("--repo", {"metavar": "URL", "help": "clone it to `repo` first"}),
    ("--branch", {"metavar": "B"}),
    ("--commit", {"metavar": "SHA"}),
    ("--depth", {"metavar": "N", "number": (1, 10**6)}),
    (
        "--git-token",
        {"metavar": "NAME", "help": "variable here with a token for --repo, if allowed"},
    ),
)
NETWORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--no-network", {"action": "store_true", "help": "none for the program"}),
    (
        "--allow-domain",
        {"metavar": "D", "action": "append", "default": [], "help": "only this one; *.example.org"},
    ),
    (
        "--allow-cidr",
        {"metavar": "C", "action": "append", "default": [], "help": "only this range"},
    ),
    (
        "--preview",
        {
            "metavar": "PORT",
            "number": (1, 65535),
            "help": "wait for the port, print a signed link; keeps the sandbox",
        },
    ),
    ("--serve", {"metavar": "CMD", "help": "the server behind --preview"}),
)
WHERE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--local", {"action": "store_true", "help": "local Daytona: no account, weaker isolation"}),
    ("--snapshot", {"metavar": "NAME", "help": "daytona-small, -medium, -large, or your own"}),
    ("--image", {"metavar": "REF", "help": "build from it (minutes)"}),
    ("--cpu", {"metavar": "N", "number": (1, 1024)}),
    ("--memory", {"metavar": "GIB", "number": (1, 1024)}),
    ("--disk", {"metavar": "GIB", "number": (1, 1024), "help": "the three only with --image"}),
    ("--target", {"metavar": "REGION"}),
    ("--label", {"metavar": "K=V", "action": "append", "default": []}),
    ("--sandbox", {"metavar": "ID", "help": "an existing one of yours; never deleted"}),
    ("--name", {"metavar": "NAME", "help": "get or create, and keep"}),
    ("--keep", {"action": "store_true", "help": "until the ttl"}),
    ("--detach", {"action": "store_true", "help": "start and return; see sandboxes.py logs, wait"}),
)
TIME: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--timeout",
        {
            "metavar": "S",
            "number": (1, LONGEST_TIMEOUT_S),
            "help": f"of each step (default: {DEFAULT_TIMEOUT_S})",
        },
    ),
    (
        "--ttl",
        {
            "metavar": "MIN",
            "number": (1, LONGEST_TTL_MIN),
            "help": f"the server deletes it then (default: {DEFAULT_TTL_MIN}, kept {KEPT_TTL_MIN})",
        },
    ),
    (
        "--auto-stop",
        {"metavar": "MIN", "number": (0, LONGEST_TTL_MIN), "help": "when idle; 0: never"},
    ),
)
OUTPUT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--json", {"action": "store_true", "help": "one JSON object"}),
    (
        "--max-output",
        {
            "metavar": "N",
            "number": (0, 10**9),
            "default": DEFAULT_MAX_OUTPUT,
            "help": f"characters a stream, head and tail (default: {DEFAULT_MAX_OUTPUT}; 0: all, raw)",
        },
    ),
    ("--quiet", {"action": "store_true"}),
    ("--verbose", {"action": "store_true"}),
    ("--debug", {"action": "store_true", "help": "tracebacks"}),
    ("--dry-run", {"action": "store_true", "help": "print the create request, send nothing"}),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and what to type in the next, instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, fix=f"{self.prog} --help shows what there is")


class Narrow(argparse.RawDescriptionHelpFormatter):
    """A model reads --help and pays for every blank: one line a flag, no columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, indent_increment=1, max_help_position=4, width=200)

    def _format_action(self, action: argparse.Action) -> str:
        line = super()._format_action(action)
        return re.sub(r"\n\s+(?=\S)", "  ", line)


def run_parser() -> Parser:
    parser = Parser(
        prog="run_in_sandbox.py",
        usage="run_in_sandbox.py [flags] [-- arguments of the program]",
        description=RUN_HELP,
        epilog=RUN_EXAMPLES,
        formatter_class=Narrow,
        allow_abbrev=False,
    )
    for title, flags in (
        ("what", WHAT),
        ("files", FILES),
        ("network", NETWORK),
        ("where", WHERE),
        ("time", TIME),
        ("output", OUTPUT),
    ):
        add(parser.add_argument_group(title), flags)
    return parser


def run_flags(argv: Sequence[str]) -> argparse.Namespace:
    """The flags as they were given; what follows `--` is the program's. Raises UsageFailure, or SystemExit(0) after --help."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    given = run_parser().parse_args(words[:cut])
    given.arguments = tuple(words[cut + 1 :])
    return given


def add(group: argparse._ArgumentGroup, flags: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    for flag, given in flags:
        options = dict(given)
        if "number" in options:
            options["type"] = whole(*options.pop("number"))
        group.add_argument(flag, **options)


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


def age(text: str) -> int:
    """An argparse type: minutes of 90m, 12h or 3d."""
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 90m, 12h or 3d")
    return int(match[1]) * {"m": 1, "h": 60, "d": 24 * 60}[match[2]]


ACTIONS = {
    "list": "what this skill made, and whose it is",
    "info": "one sandbox in full",
    "logs": "what the program of --detach or --serve printed so far",
    "wait": "until the program of --detach ends; with its exit code",
    "stop": "stop, keeping the files",
    "delete": "delete",
    "prune": "delete what is older than an age; only shows it without --yes",
    "fetch": "bring what a run held back to here, code too; without THERE: show what it holds",
    "adopt": "make a sandbox yours: these scripts may use and delete it from then on",
    "publish": "let everybody open every port of a sandbox, without a token",
}


def sandboxes_parser() -> Parser:
    parser = Parser(
        prog="sandboxes.py",
        allow_abbrev=False,
        description="Find, watch and delete what this skill made for you (labels managed-by and user-id); nothing else is touched.",
    )
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name in ("info", "logs", "wait", "adopt", "publish"):
            action.add_argument("targets", nargs=1, metavar="ID", help="id or name")
        elif name in ("stop", "delete"):
            action.add_argument("targets", nargs="+", metavar="ID", help="id or name")
        if name == "wait":
            action.add_argument(
                "--timeout",
                metavar="S",
                type=whole(1, LONGEST_TIMEOUT_S),
                help="give up after so many seconds",
            )
        if name == "logs":
            action.add_argument(
                "--max-output",
                metavar="N",
                type=whole(0, 10**9),
                default=DEFAULT_MAX_OUTPUT,
            )
        if name == "prune":
            action.add_argument(
                "--older-than", metavar="AGE", type=age, required=True, help="such as 90m, 12h, 3d"
            )
            action.add_argument("--yes", action="store_true", help="really delete")
        if name == "publish":
            action.add_argument(
                "--port", metavar="PORT", type=whole(1, 65535), help="print its link too"
            )
            action.add_argument("--off", action="store_true", help="close it again")
        if name == "fetch":
            action.add_argument("run_id", metavar="RUN", help="as the run's last lines name it")
            action.add_argument(
                "pairs", nargs="*", metavar="THERE[:HERE]", help="path in the sandbox, and here"
            )
            action.add_argument("--force", action="store_true", help="overwrite files here")
        action.add_argument("--local", action="store_true", help="on local Daytona")
        action.add_argument("--json", action="store_true", help="print one JSON object")
        action.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def health_parser() -> Parser:
    parser = Parser(
        prog="healthcheck.py",
        allow_abbrev=False,
        description="Can I use Daytona here, by which path, and what to fix.",
        epilog="Verdicts and exit codes: READY 0, LOCAL ONLY 3, CLI ONLY 4, NOT READY 5. --install ends with 0 when the environment works.",
    )
    parser.add_argument(
        "--install", action="store_true", help="make or repair the skill's own environment first"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
