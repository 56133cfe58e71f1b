"""RunRequest: everything a run needs, read and checked once.

Each file and variable of this machine comes through `host_access`. What a run does with it comes
later, and reads nothing of this machine but what `archive` packs.
"""

from __future__ import annotations

import argparse
import io
import posixpath
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from . import languages
from .archive.pairs import Download, Upload, read_download, read_upload, refuse_taken, split_pair
from .charts import chart_name
from .console import quote_path
from .deadlines import Deadlines
from .defaults import (
    DEFAULT_MAX_OUTPUT,
    ENV_NAME,
    JOBS,
    LARGEST_TEXT,
    LARGEST_TRANSFER,
    MOST_VALUES,
    SANDBOX_NAME,
)
from .errors import Failure, UsageFailure
from .host_access import HostAccess
from .host_access.keys import holds_a_secret
from .network_rule import NetworkRule
from .redaction import SHORTEST_SECRET, secret_values
from .settings import DOTENV_FILES, Settings

FROM_STDIN = "-"
EACH = "EACH"  # the variable that holds the value of a run
RESULTS, SLUG = "results", 30
LEAST_OUTPUT = 400  # characters a stream of one of many runs
UNSUPPORTED = (languages.NOTEBOOK, *languages.OTHER_PROGRAMS)  # whatever their first line says
ONLY_AT_CREATE = ("snapshot", "image", "target", "secrets", "labels", "volumes")


@dataclass(frozen=True)
class Program:
    """A bash script, or source code in `language`; `stdin` is what it reads, None for nothing."""

    text: str
    language: str | None = None
    arguments: tuple[str, ...] = ()
    stdin: bytes | None = field(default=None, repr=False)
    file: str | None = None  # of this machine, where it was read from
    saves_charts: bool = False
    place: str | None = None  # where an upload brings this very file, seen from the first folder

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
class VolumeMount:
    """A volume by its name, and where it lies inside."""

    name: str
    path: str


@dataclass(frozen=True)
class Display:
    """How a run shows itself; `max_output` is in characters a stream, 0 for all of it, raw."""

    json: bool = False
    max_output: int = DEFAULT_MAX_OUTPUT
    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    def shared_by(self, runs: int) -> Display:
        """Of one of so many runs, which together show no more than one."""
        least = min(self.max_output, LEAST_OUTPUT)
        return replace(self, max_output=max(self.max_output // runs, least))


@dataclass(frozen=True)
class RunRequest:
    """What run_in_sandbox.py was asked to do, whole. Times carry their unit; sizes are GiB."""

    programs: tuple[Program, ...] = ()
    setup: tuple[Program, ...] = ()
    server: Program | None = None
    preview: int | None = None
    port: int | None = None  # of a server that the program tests
    detach: bool = False
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)  # what is hidden of it
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
    volumes: tuple[VolumeMount, ...] = ()
    each: tuple[str, ...] = ()  # values, each for a run of its own
    jobs: int = JOBS
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

    def for_value(self, number: int, value: str) -> RunRequest:
        """The run of one value of `each`; what it brings back has a folder of its own."""
        programs = (replace(one, arguments=(value, *one.arguments)) for one in self.programs)
        return replace(
            self,
            each=(),
            programs=tuple(programs),
            env={**self.env, EACH: value},
            display=self.display.shared_by(len(self.each)),
            downloads=tuple(
                replace(download, here=place_of_value(download.here, number, value))
                for download in self.downloads
            ),
            charts=None
            if self.charts is None
            else place_of_value(self.charts or RESULTS, number, value),
        )

    @property
    def needs_network_first(self) -> bool:
        """Whether a step before the program needs the network that the program shall not have."""
        return bool(self.setup) or self.repo is not None

    @property
    def hidden(self) -> tuple[str, ...]:
        """What redaction must find, besides the account's own."""
        token = self.repo.token if self.repo is not None else None
        return (*self.secret_env.values(), *([token] if token else []))

    @property
    def too_short_to_hide(self) -> list[str]:
        """Names of variables whose secret value would take any text apart."""
        return [name for name, value in self.secret_env.items() if 0 < len(value) < SHORTEST_SECRET]

    @property
    def flags_only_at_create(self) -> list[str]:
        """Those that were given."""
        return [f"--{name.removesuffix('s')}" for name in ONLY_AT_CREATE if getattr(self, name)]


def read_run_request(given: argparse.Namespace, access: HostAccess) -> RunRequest:
    """All of it, before a create.

    Raises Failure for what may not be read, and UsageFailure for what is not there.
    """
    env, secret_env = read_environment(given, access)
    uploads = tuple(read_upload(text, access) for text in given.upload)
    programs = read_programs(given, access, uploads)
    repo, values = read_repository(given, access), read_values(given, access)
    if given.charts is not None:
        refuse_charts(given, programs, values, access)
    as_given = (
        "preview port detach cwd charts force local sandbox name keep snapshot image cpu memory"
        " disk target dry_run"
    )
    return RunRequest(
        **{name: getattr(given, name) for name in as_given.split()},
        programs=programs,
        setup=tuple(Program(shell_text(text)) for text in given.setup),
        server=None if given.serve is None else Program(shell_text(given.serve)),
        env=env,
        secret_env=secret_env,
        uploads=uploads,
        downloads=read_downloads(given, values, access),
        each=values,
        jobs=given.jobs or JOBS,
        repo=repo,
        network=NetworkRule(given.no_network, tuple(given.allow_domain), tuple(given.allow_cidr)),
        takes_host_values=bool(given.env_file or given.git_token)
        or any("=" not in text for text in given.env),
        deadlines=Deadlines.of_run(given),
        labels=dict(split_assignment(text) for text in given.label),
        secrets=read_vault_names(given, access),
        volumes=tuple(VolumeMount(*text.split(":", 1)) for text in given.volume),
        display=Display(given.json, given.max_output, given.quiet, given.verbose, given.debug),
    )


def read_values(given: argparse.Namespace, access: HostAccess) -> tuple[str, ...]:
    """Those of --each, then those of --each-file: a line each, but for empty ones."""
    values = list(given.each)
    if given.each_file is not None:
        text = access.text("--each-file", given.each_file, limit=LARGEST_TEXT)
        if "\0" in text:
            raise UsageFailure("--each-file: a line holds a NUL", fix="write a value a line")
        lines = (line.removesuffix("\r") for line in text.split("\n"))
        values += [line for line in lines if line.strip()]
    if given.each_file is not None and not values:
        raise UsageFailure("--each-file: no line holds a value", fix="write a value a line")
    if len(values) > MOST_VALUES:
        raise UsageFailure(
            f"--each: {len(values):,} values are more than {MOST_VALUES:,}",
            fix="use several runs, or a loop in the program",
        )
    return tuple(values)


def read_downloads(
    given: argparse.Namespace, values: Sequence[str], access: HostAccess
) -> tuple[Download, ...]:
    """With --each each value has a folder of its own in HERE, or else in `results`."""
    if not values:
        return tuple(read_download(text, access, force=given.force) for text in given.download)
    found = []
    for text in given.download:
        there, here = split_pair(text, flag="--download")
        here = here or RESULTS
        for number, value in enumerate(values, 1):
            place = place_of_value(here, number, value)
            download = read_download(f"{there}:{place}", access, force=given.force)
        found.append(replace(download, here=here))
    return tuple(found)


def place_of_value(here: str, number: int, value: str) -> str:
    """HERE/007-slug/: in order, and named after the value where it is a plain word."""
    slug = re.sub(r"[^a-z0-9]+", "-", value.lower())[:SLUG].strip("-")
    return f"{here.rstrip('/')}/{number:03d}{'-' if slug else ''}{slug}/"


def split_assignment(text: str) -> tuple[str, str]:
    """NAME and value of NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, value


def read_environment(
    given: argparse.Namespace, access: HostAccess
) -> tuple[dict[str, str], dict[str, str]]:
    """All variables, and those of them that are secret.

    The later ones win: of files, of names of this machine's variables, of values given. What is
    from this machine is secret, of the values given what looks so.
    """
    passed: dict[str, str] = {}
    for file in given.env_file:
        passed |= read_env_file(file, access)
    passed |= {name: access.variable(name) for name in given.env if "=" not in name}
    typed = dict(split_assignment(text) for text in given.env if "=" in text)
    secret = {name: value for name, value in passed.items() if name not in typed}
    return passed | typed, secret | secret_values(typed)


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


def shell_text(text: str) -> str:
    """Without the CR of Windows' line ends, which a shell takes for a part of the last word."""
    return re.sub(r"\r(?=\n|\Z)", "", text)


def read_programs(
    given: argparse.Namespace, access: HostAccess, uploads: Sequence[Upload] = ()
) -> tuple[Program, ...]:
    """The steps after the setup, each with its text, arguments and stdin."""
    piped = FROM_STDIN in (*given.command, given.code, given.file)
    if piped and given.stdin == FROM_STDIN:
        raise UsageFailure(
            "--stdin - and a program that is - cannot both be read from stdin",
            fix="name a file for one of them",
        )
    text = read_program_on_stdin() if piped else ""
    found = [
        Program(shell_text(text if command == FROM_STDIN else command)) for command in given.command
    ]
    if piped and not found:
        found = [Program(text, given.language or "python")]
    elif given.code is not None:
        found = [Program(given.code, given.language or "python")]
    elif given.file is not None:
        found = [read_program_file(given.file, given.language, access, uploads)]
    stdin = None
    if given.stdin == FROM_STDIN:
        stdin = read_piped("the program's input", LARGEST_TRANSFER)
    elif given.stdin is not None:
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


def read_piped(what: str, limit: int) -> bytes:
    """What a `-` stands for; a key is refused as in a file."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageFailure(
            f"- reads {what} from stdin, which is a terminal here",
            fix="pipe it in, or name a file",
        )
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise UsageFailure(
            f"{what} on stdin is larger than {limit >> 20} MiB",
            fix="--upload it, and read it by --command",
        )
    if holds_a_secret(PurePath("-"), io.BytesIO(data)):
        raise Failure(
            "host_access", f"{what} on stdin holds a key", fix="pipe in what is not secret"
        )
    return data


def read_program_on_stdin() -> str:
    data = read_piped("the program", LARGEST_TEXT)
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


def read_program_file(
    file: str, language: str | None, access: HostAccess, uploads: Sequence[Upload] = ()
) -> Program:
    """--file as if its text had been given by --code or --command."""
    text = access.text("--file", file, limit=LARGEST_TEXT)
    if not text.strip():
        raise UsageFailure(
            f"--file {quote_path(file)} is empty", fix="name a file with a program in it"
        )
    ending = PurePath(file).suffix.lower()
    language = (
        language
        or languages.language_of_ending(ending)
        or (languages.SHELL if ending in languages.SHELL_ENDINGS else None)
        or (None if ending in UNSUPPORTED else languages.language_of_shebang(text))
    )
    if language is None:
        raise UsageFailure(
            f"--file {quote_path(file)}: no language goes by that ending",
            fix=fix_for_file(file, ending),
        )
    place = find_place(file, access, uploads)
    if language == languages.SHELL:
        return Program(shell_text(text), file=file, place=place)
    return Program(text, language, file=file, place=place)


def fix_for_file(file: str, ending: str) -> str:
    """A line that runs it all the same, where somebody knows how."""
    path = shlex.quote(file)
    if ending == languages.NOTEBOOK:
        command = shlex.quote(f"{languages.RUN_NOTEBOOK} {path}")
        return f"--upload {path} --setup '{languages.INSTALL_NOTEBOOK}' --command {command}"
    if ending in languages.OTHER_PROGRAMS:
        program = languages.OTHER_PROGRAMS[ending]
        command = shlex.quote(f"{program} {path}")
        return f"--upload {path} --command {command}, with an --image that has {program.split()[0]}"
    command = shlex.quote(f"INTERPRETER {path}")
    return (
        "--language python, javascript or typescript if it is one of these; else"
        f" --upload {path} --command {command}"
    )


def find_place(file: str, access: HostAccess, uploads: Sequence[Upload]) -> str | None:
    """Where an upload brings the file; None when none does, by its name.

    An upload leaves out what is ignored, so the sandbox is asked once more.
    """
    real = access.allowed("--file", file)
    for upload in uploads:
        top = access.allowed("--upload", upload.here)
        if real == top:
            return upload.there
        if real.is_relative_to(top):
            return posixpath.normpath(
                posixpath.join(upload.there, real.relative_to(top).as_posix())
            )
    return None


def read_repository(given: argparse.Namespace, access: HostAccess) -> Repository | None:
    if given.repo is None:
        return None
    token = None if given.git_token is None else access.git_token(given.git_token, given.repo)
    return Repository(given.repo, given.branch, given.commit, given.depth, token)


def refuse_charts(
    given: argparse.Namespace,
    programs: tuple[Program, ...],
    values: Sequence[str],
    access: HostAccess,
) -> None:
    """Raises Failure for charts of another language, or in a place that is not written."""
    if programs[0].language != "python":
        raise UsageFailure(
            "--charts saves the charts of Python code", fix="use --code, or a .py file"
        )
    places = [given.charts]
    if values:
        found = enumerate(values, 1)
        places = [place_of_value(given.charts or RESULTS, *one) for one in found]
    for place in places:
        refuse_taken("--charts", f"{place.rstrip('/')}/{chart_name(1)}", access, force=given.force)


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
    all: bool = False
    volume: bool = False
    delete: tuple[str, ...] = ()
    name: str = ""  # of a snapshot
    ttl_min: int = 0
    auto_stop_min: int | None = None
    run_id: str = ""
    pairs: tuple[str, ...] = ()
    force: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> SandboxesRequest:
        """Each verb has flags of its own; what it has not is as above."""
        values = dict(vars(given))
        for flag, name in (
            ("timeout", "timeout_s"),
            ("older_than", "older_than_min"),
            ("ttl", "ttl_min"),
            ("auto_stop", "auto_stop_min"),
        ):
            if flag in values:
                values[name] = values.pop(flag)
        if not re.fullmatch(SANDBOX_NAME, values.get("name", "x")):
            raise UsageFailure(
                f"{values['name']!r} is no name for a snapshot",
                fix="letters, digits, dots, dashes and underscores, such as with-pandas",
            )
        for name in ("targets", "pairs", "delete"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
