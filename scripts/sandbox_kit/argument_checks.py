"""What a flag of run_in_sandbox.py cannot mean, alone or beside others; each with the way out.

Rows of `arguments` name these.
"""

from __future__ import annotations

import re

from skill_env import quoted

from .defaults import (
    DOMAIN,
    ENV_NAME,
    LABEL,
    MOST_CIDRS,
    MOST_DOMAINS,
    OUR_LABELS,
    RESERVED_PORTS,
    SANDBOX_NAME,
    VAULT_NAME,
    suggest_larger_snapshots,
)
from .errors import UsageFailure

TYPE_CHECKING = False  # as typing has it: this module is imported by --help too
if TYPE_CHECKING:
    import argparse


def check_program(given: argparse.Namespace) -> None:
    sources = [given.command or None, given.code, given.file]
    if sum(source is not None for source in sources) > 1:
        raise UsageFailure(
            "--command, --code and --file exclude each other",
            fix="use one of them; a command may start any interpreter",
        )
    texts = [
        *(given.command),
        *(text for text in (given.code, given.file) if text is not None),
    ]
    if not texts and given.serve is None:
        check_nothing_to_run(given)
    if any(
        not text.strip()
        for text in [*texts, *given.setup, *([given.serve] if given.serve is not None else [])]
    ):
        raise UsageFailure(
            "nothing to run: the text is empty", fix='--command "...", --code "..." or --file PATH'
        )
    if texts.count("-") > 1:
        raise UsageFailure("only one program can be read from stdin", fix="write the others out")


def check_nothing_to_run(given: argparse.Namespace) -> None:
    """Files for a sandbox that stays, or a link to it, are work; raises UsageFailure otherwise."""
    if given.sandbox is not None and given.download and not given.detach:
        return
    if (given.sandbox or given.name) and given.upload and not given.detach:
        return
    if given.sandbox is not None and given.preview is not None:
        return  # a new link to what runs there
    fix = '--command "...", --code "..." or --file PATH'
    if given.name is not None and given.download:
        fix = f"--sandbox {quoted(given.name)} in the place of --name fetches from it"
    elif given.keep or given.name is not None:
        fix = "--command true makes the sandbox and runs nothing in it"
    raise UsageFailure("nothing to run", fix=fix)


def check_stdin_and_arguments(given: argparse.Namespace) -> None:
    steps = len(given.command)
    for flag, used in (
        ("--stdin", given.stdin is not None),
        ("arguments after --", bool(given.arguments)),
    ):
        if used and steps > 1:
            raise UsageFailure(f"{flag}: there are several --command", fix="use one --command")
        if used and not given.command and given.code is None and given.file is None:
            raise UsageFailure(
                f"{flag}: they are for --command, --code or --file",
                fix="put them into the text of --serve",
            )


def check_many(given: argparse.Namespace) -> None:
    if not given.each and given.each_file is None:
        if given.jobs is not None:
            raise UsageFailure("--jobs needs --each", fix="--each VALUE, again for each one")
        return
    for flag in ("sandbox", "name", "keep", "preview", "detach", "dry_run"):
        if getattr(given, flag):
            name = flag.replace("_", "-")
            raise UsageFailure(
                f"--each makes sandboxes that end with their run, so --{name} has no place",
                fix=f"leave out --{name}",
            )


def check_language(given: argparse.Namespace) -> None:
    if given.language and (given.code is None and given.file is None):
        raise UsageFailure(
            "--language says what --code is written in", fix="leave it out, or use --code"
        )
    if given.local and given.language == "typescript":
        raise UsageFailure(
            "local Daytona runs python and javascript",
            fix="compile it to javascript, or leave out --local",
        )


def check_image_and_size(given: argparse.Namespace) -> None:
    if given.image and given.snapshot:
        raise UsageFailure(
            "--image and --snapshot exclude each other", fix="use --snapshot: it starts at once"
        )
    if (given.cpu or given.memory or given.disk) and not given.image:
        raise UsageFailure(
            "--cpu, --memory and --disk only work with --image: a snapshot has its size",
            fix=suggest_larger_snapshots(),
        )


def check_repository(given: argparse.Namespace) -> None:
    for flag in ("branch", "commit", "depth", "git_token"):
        if getattr(given, flag) is not None and given.repo is None:
            raise UsageFailure(
                f"--{flag.replace('_', '-')} needs --repo",
                fix=f"--repo URL --{flag.replace('_', '-')} ...",
            )
    if given.repo is not None:
        check_address(given.repo, with_token=given.git_token is not None)
    if given.branch and given.commit:
        raise UsageFailure("--branch and --commit exclude each other", fix="a commit is enough")
    if given.commit and not re.fullmatch(r"[0-9a-fA-F]{7,40}", given.commit):
        raise UsageFailure(
            "--commit takes 7 to 40 hexadecimal digits",
            fix="--branch NAME for a branch; the commit of a tag: git ls-remote --tags URL",
        )
    if given.branch and given.branch.startswith("-"):
        raise UsageFailure("--branch is not a branch's name", fix="--branch main")


def check_address(url: str, *, with_token: bool) -> None:
    """Raises UsageFailure for what is no URL, and for one with a password.

    The sandbox would store the password.
    """
    if re.match(r"https?://[^/]*@", url):
        raise UsageFailure(
            "--repo must not carry credentials",
            fix="use the address without user and password, and --git-token NAME",
        )
    if not re.match(r"https?://[^\s/]+/\S+$", url):
        raise UsageFailure(
            "--repo takes an http or https address", fix="--repo https://github.com/org/project.git"
        )
    if with_token and not url.startswith("https://"):
        raise UsageFailure(
            "--git-token: a token is only sent by https", fix="use the https address of --repo"
        )


def check_network_rule(given: argparse.Namespace) -> None:
    flags = {
        "--no-network": given.no_network,
        "--allow-domain": given.allow_domain,
        "--allow-cidr": given.allow_cidr,
    }
    used = [flag for flag, on in flags.items() if on]
    if len(used) > 1:
        raise UsageFailure(
            f"{' and '.join(used)} exclude each other: Daytona takes one kind of rule",
            fix=f"leave out {used[-1]}",
        )
    for name in given.allow_domain:
        if not re.fullmatch(DOMAIN, name):
            raise UsageFailure(
                "--allow-domain takes a domain name",
                fix="--allow-domain pypi.org, or *.example.org; addresses: --allow-cidr",
            )
    for text in given.allow_cidr:
        if not is_cidr(text):
            raise UsageFailure(
                "--allow-cidr takes an IPv4 range",
                fix="--allow-cidr 203.0.113.0/24; names: --allow-domain",
            )
    for flag, values, most in (
        ("--allow-cidr", given.allow_cidr, MOST_CIDRS),
        ("--allow-domain", given.allow_domain, MOST_DOMAINS),
    ):
        if len(values) > most:
            raise UsageFailure(f"{flag}: Daytona takes {most} at the most", fix="use wider ones")


def is_cidr(text: str) -> bool:
    import ipaddress

    try:
        return "/" in text and ipaddress.ip_network(text, strict=False).version == 4
    except ValueError:
        return False


def check_preview(given: argparse.Namespace) -> None:
    if given.serve is not None and given.preview is None and given.port is None:
        raise UsageFailure(
            "--serve starts a server, and nothing says on which port",
            fix="add --preview PORT for a link to it, or --port PORT to test it by --command",
        )
    for flag, port in (("--preview", given.preview), ("--port", given.port)):
        if port in RESERVED_PORTS:
            raise UsageFailure(
                f"port {port} is Daytona's own",
                fix=f"{flag} 8000, and let the server listen there",
            )


def check_tested_server(given: argparse.Namespace) -> None:
    if given.port is None:
        return
    if given.preview is not None:
        raise UsageFailure(
            "--port and --preview exclude each other",
            fix="--preview for a link that stays, --port for a program that tests and ends",
        )
    if given.serve is None:
        raise UsageFailure("--port needs --serve", fix="--serve CMD --port PORT")
    if not given.command and given.code is None and given.file is None:
        raise UsageFailure(
            "--port: there is no program that tests the server",
            fix="add --command CMD, or --preview in the place of --port",
        )


def check_detached(given: argparse.Namespace) -> None:
    if not given.detach:
        return
    if len(given.command) > 1:
        raise UsageFailure(
            "--detach starts one program",
            fix="join the steps in one --command with &&; what comes before: --setup",
        )
    for flag in ("timeout", "download", "charts", "serve", "preview", "port"):
        if getattr(given, flag):
            fix = "--ttl MIN is its end" if flag == "timeout" else f"leave out --{flag}"
            raise UsageFailure(f"--detach does not wait, so --{flag} has no place", fix=fix)


def check_charts(given: argparse.Namespace) -> None:
    if given.charts is None:
        return
    if given.code is None and given.file is None:
        raise UsageFailure(
            "--charts saves the charts of Python code",
            fix="use --code or --file with matplotlib in it",
        )
    if given.language not in (None, "python"):
        raise UsageFailure(
            "--charts saves matplotlib's charts", fix="use python, or save a file and --download it"
        )


def check_existing_sandbox(given: argparse.Namespace) -> None:
    """An existing sandbox has its image, size and lifetime already."""
    if given.sandbox is None:
        return
    for flag in (
        "name",
        "image",
        "snapshot",
        "ttl",
        "keep",
        "secret",
        "volume",
        "label",
        "target",
        "auto_stop",
        "dry_run",
    ):
        value = getattr(given, flag)
        if value is not None and value is not False and value != []:
            name = flag.replace("_", "-")
            raise UsageFailure(
                f"--{name} cannot change the existing sandbox of --sandbox",
                fix=f"leave out --{name}",
            )


def check_sandbox_name(given: argparse.Namespace) -> None:
    if given.name is not None and not re.fullmatch(SANDBOX_NAME, given.name):
        raise UsageFailure(
            f"--name {given.name!r} is not a sandbox name",
            fix="letters, digits, dots, dashes and underscores, such as --name work-1",
        )


def check_secrets(given: argparse.Namespace) -> None:
    for text in given.secret:
        name, _, secret = text.partition("=")
        if not re.fullmatch(ENV_NAME, name) or not re.fullmatch(VAULT_NAME, secret):
            raise UsageFailure(
                "--secret takes ENV=NAME: a variable, and a secret's name in the vault",
                fix="--secret API_TOKEN=my-token",
            )


def check_volumes(given: argparse.Namespace) -> None:
    for text in given.volume:
        name, _, path = text.partition(":")
        if not re.fullmatch(SANDBOX_NAME, name) or not re.fullmatch(r"/[^\0:]*[^\0:/]", path):
            raise UsageFailure(
                "--volume takes NAME:/PATH, a volume's name and where it lies inside",
                fix="--volume cache:/home/daytona/cache",
            )


def check_git_token(given: argparse.Namespace) -> None:
    if given.git_token is not None and not re.fullmatch(ENV_NAME, given.git_token):
        raise UsageFailure(
            "--git-token takes the name of a variable, never a token",
            fix="export GH_TOKEN=..., then --git-token GH_TOKEN",
        )


def check_narration(given: argparse.Namespace) -> None:
    if given.quiet and given.verbose:
        raise UsageFailure("--quiet and --verbose exclude each other", fix="use one of them")


def check_labels(given: argparse.Namespace) -> None:
    for text in given.label:
        name, mark, _ = text.partition("=")
        if not mark or not re.fullmatch(LABEL, name):
            raise UsageFailure("--label takes K=V", fix="--label team=web")
        if name in OUR_LABELS or name == "code-toolbox-language":
            raise UsageFailure(f"--label {name} is set by this tool", fix="choose another name")


def check_variables(given: argparse.Namespace) -> None:
    """A value is never repeated in a message."""
    for text in given.env:
        if not re.fullmatch(ENV_NAME, text.partition("=")[0]):
            raise UsageFailure(
                "--env: a variable's name has letters, digits and underscores, no digit first",
                fix="--env NAME=VALUE",
            )


def check_deadlines(given: argparse.Namespace) -> None:
    from .deadlines import Deadlines

    Deadlines.of_run(given)
