"""RunRequest: everything a run needs, read and checked once.

Each file and variable of this machine comes through `host_access`. What a run does with it comes
later, and reads nothing of this machine but what `archive` packs.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from . import languages
from .archive.pairs import Download, Upload, read_download, read_upload, refuse_taken
from .charts import chart_name
from .console import quote_path
from .deadlines import Deadlines
from .defaults import DEFAULT_MAX_OUTPUT, ENV_NAME, LARGEST_TEXT, LARGEST_TRANSFER
from .errors import Failure, UsageFailure
from .host_access import HostAccess
from .network_rule import NetworkRule
from .settings import DOTENV_FILES, Settings

FROM_STDIN = "-"
ONLY_AT_CREATE = ("snapshot", "image", "target", "secrets", "labels")


@dataclass(frozen=True)
class Program:
    """A bash script, or source code in `language`; `stdin` is what it reads, None for nothing."""

    text: str
    language: str | None = None
    arguments: tuple[str, ...] = ()
    stdin: bytes | None = field(default=None, repr=False)
    file: str | None = None  # of this machine, where it was read from
    saves_charts: bool = False

    @property
    def label(self) -> str:
        """What a report calls it."""
        return self.text if self.file is None or self.language is None else self.file


@dataclass(frozen=True)
class Repository:
    """What to clone into `repo`; the token is a secret of this machine's."""

    url: str
    branch: str | None = None
    commit: str | None = None
    depth: int | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Display:
    """How a run shows itself; `max_output` is in characters a stream, 0 for all of it, raw."""

    json: bool = False
    max_output: int = DEFAULT_MAX_OUTPUT
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


@dataclass(frozen=True)
class RunRequest:
    """What run_in_sandbox.py was asked to do, whole. Times carry their unit; sizes are GiB."""

    programs: tuple[Program, ...] = ()
    setup: tuple[Program, ...] = ()
    server: Program | None = None
    preview: int | None = None
    detach: bool = False
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    uploads: tuple[Upload, ...] = ()
    downloads: tuple[Download, ...] = ()
    charts: str | None = None
    force: bool = False
    repo: Repository | None = None
    network: NetworkRule = field(default_factory=NetworkRule)
    takes_host_values: bool = False
    deadlines: Deadlines = field(default_factory=Deadlines)
    local: bool = False
    sandbox: str | None = None
    name: str | None = None
    keep: bool = False
    snapshot: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    target: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # variable -> name in Daytona's vault
    dry_run: bool = False
    display: Display = field(default_factory=Display)

    @property
    def stays(self) -> bool:
        """Whether the sandbox outlives this run whatever comes of it."""
        return self.keep or self.name is not None or self.sandbox is not None

    @property
    def keeps(self) -> bool:
        """Whether the sandbox outlives this run if all goes well."""
        return self.stays or self.preview is not None or self.detach

    @property
    def needs_network_first(self) -> bool:
        """Whether a step before the program needs the network that the program shall not have."""
        return bool(self.setup) or self.repo is not None

    @property
    def hidden(self) -> tuple[str, ...]:
        """What redaction must find, besides the account's own."""
        token = self.repo.token if self.repo is not None else None
        return (*self.env.values(), *([token] if token else []))

    @property
    def flags_only_at_create(self) -> list[str]:
        """Those that were given."""
        return [f"--{name}" for name in ONLY_AT_CREATE if getattr(self, name)]


def read_run_request(given: argparse.Namespace, access: HostAccess) -> RunRequest:
    """All of it, before a create.

    Raises Failure for what may not be read, and UsageFailure for what is not there.
    """
    env = read_environment(given, access)
    programs = read_programs(given, access)
    repo = read_repository(given, access)
    refuse_charts(given, programs, access)
    as_given = (
        "preview detach cwd charts force local sandbox name keep snapshot image cpu memory disk"
        " target dry_run"
    )
    return RunRequest(
        **{name: getattr(given, name) for name in as_given.split()},
        programs=programs,
        setup=tuple(Program(text) for text in given.setup),
        server=None if given.serve is None else Program(given.serve),
        env=env,
        uploads=tuple(read_upload(text, access) for text in given.upload),
        downloads=tuple(read_download(text, access, force=given.force) for text in given.download),
        repo=repo,
        network=NetworkRule(given.no_network, tuple(given.allow_domain), tuple(given.allow_cidr)),
        takes_host_values=bool(given.env_file or given.git_token)
        or any("=" not in text for text in given.env),
        deadlines=Deadlines.of_run(given),
        labels=dict(split_assignment(text) for text in given.label),
        secrets=read_vault_names(given, access),
        display=Display(given.json, given.max_output, given.quiet, given.verbose, given.debug),
    )


def split_assignment(text: str) -> tuple[str, str]:
    """NAME and value of NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, value


def read_environment(given: argparse.Namespace, access: HostAccess) -> dict[str, str]:
    """The later ones win: of files, of names of this machine's variables, of values given."""
    found: dict[str, str] = {}
    for file in given.env_file:
        found |= read_env_file(file, access)
    found |= {name: access.variable(name) for name in given.env if "=" not in name}
    return found | dict(split_assignment(text) for text in given.env if "=" in text)


def read_vault_names(given: argparse.Namespace, access: HostAccess) -> dict[str, str]:
    """Variable -> name in the vault: whatever the organization stored there, for any sandbox."""
    pairs = [split_assignment(text) for text in given.secret]
    return {variable: access.vault_secret(name) for variable, name in pairs}


def read_env_file(file: str, access: HostAccess) -> dict[str, str]:
    """NAME=VALUE lines, without expansion: `${NAME}` would read this machine's variables.

    No message has a value.
    """
    from dotenv import dotenv_values

    text = access.text("--env-file", file, limit=LARGEST_TEXT)
    found: dict[str, str] = {}
    for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items():
        if value is None or not re.fullmatch(ENV_NAME, name):
            raise UsageFailure(
                f"--env-file {quote_path(file)} has a line that is not NAME=VALUE",
                fix="write NAME=VALUE, a line each",
            )
        found[name] = value
    return found


def read_programs(given: argparse.Namespace, access: HostAccess) -> tuple[Program, ...]:
    """The steps after the setup, each with its text, arguments and stdin."""
    piped = FROM_STDIN in (*given.command, given.code, given.file)
    text = read_program_on_stdin() if piped else ""
    found = [Program(text if command == FROM_STDIN else command) for command in given.command]
    if piped and not found:
        found = [Program(text, given.language or "python")]
    elif given.code is not None:
        found = [Program(given.code, given.language or "python")]
    elif given.file is not None:
        found = [read_program_file(given.file, given.language, access)]
    stdin = None
    if given.stdin is not None:
        stdin = access.read("--stdin", given.stdin, limit=LARGEST_TRANSFER)
    return tuple(
        replace(
            program,
            arguments=given.arguments,
            stdin=stdin,
            saves_charts=given.charts is not None,
        )
        for program in found
    )


def read_program_on_stdin() -> str:
    """What a `-` stands for."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageFailure(
            "- reads the program from stdin, which is a terminal here",
            fix="pipe it in, or use --file PATH",
        )
    data = sys.stdin.buffer.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise UsageFailure(
            f"the program on stdin is larger than {LARGEST_TEXT >> 20} MiB",
            fix="--upload it, and start it by --command",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageFailure(
            "the program on stdin is not UTF-8 text", fix="convert it to UTF-8"
        ) from None
    if not text.strip():
        raise UsageFailure(
            "nothing to run: stdin is empty", fix="pipe a program in, or use --code TEXT"
        )
    return text


def read_program_file(file: str, language: str | None, access: HostAccess) -> Program:
    """--file as if its text had been given by --code or --command."""
    text = access.text("--file", file, limit=LARGEST_TEXT)
    if not text.strip():
        raise UsageFailure(
            f"--file {quote_path(file)} is empty", fix="name a file with a program in it"
        )
    ending = PurePath(file).suffix.lower()
    language = language or languages.language_of_ending(ending)
    if language is None and ending not in languages.SHELL_ENDINGS:
        raise UsageFailure(
            f"--file {quote_path(file)}: no language goes by that ending",
            fix="--language python, javascript or typescript",
        )
    return Program(text, language, file=file)


def read_repository(given: argparse.Namespace, access: HostAccess) -> Repository | None:
    if given.repo is None:
        return None
    token = None if given.git_token is None else access.git_token(given.git_token, given.repo)
    return Repository(given.repo, given.branch, given.commit, given.depth, token)


def refuse_charts(
    given: argparse.Namespace, programs: tuple[Program, ...], access: HostAccess
) -> None:
    """Raises Failure for charts of another language, or in a place that is not written."""
    if given.charts is None:
        return
    if programs[0].language != "python":
        raise UsageFailure(
            "--charts saves the charts of Python code", fix="use --code, or a .py file"
        )
    first = f"{given.charts.rstrip('/')}/{chart_name(1)}"
    refuse_taken("--charts", first, access, force=given.force)


def refuse_foreign_account(request: RunRequest, settings: Settings) -> None:
    """Raises Failure for this machine's variables beside a key from a file here.

    Such a key may be a stranger's, who would be given the variables.
    """
    if request.takes_host_values and settings.key_source in DOTENV_FILES:
        raise Failure(
            "host_access",
            f"variables of this machine are not passed to an account whose key is from"
            f" {settings.key_source}",
            fix="export DAYTONA_API_KEY, so that the account is surely yours",
        )


@dataclass(frozen=True)
class SandboxesRequest:
    """What sandboxes.py was asked to do."""

    action: str
    targets: tuple[str, ...] = ()
    local: bool = False
    json: bool = False
    debug: bool = False
    timeout_s: int | None = None
    max_output: int = DEFAULT_MAX_OUTPUT
    older_than_min: int = 0
    yes: bool = False
    port: int | None = None
    off: bool = False
    run_id: str = ""
    pairs: tuple[str, ...] = ()
    force: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> SandboxesRequest:
        """Each verb has flags of its own; what it has not is as above."""
        values = dict(vars(given))
        if "timeout" in values:
            values["timeout_s"] = values.pop("timeout")
        if "older_than" in values:
            values["older_than_min"] = values.pop("older_than")
        for name in ("targets", "pairs"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
