"""What a run takes from this machine, each thing through `host_access`: the file to run, variables by file and by name."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import PurePath

from sandbox_kit.console import quote_path

from .archive.pairs import download_pair, refuse_taken, upload_pair
from .charts import chart_name
from .defaults import ENV_NAME, LARGEST_TEXT, LARGEST_TRANSFER
from .errors import Failure, UsageFailure
from .host_access.gate import HostAccess
from .options import FROM_STDIN, RunOptions
from .settings import DOTENV_FILES, Settings

LANGUAGE_OF = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
}
SHELL = (".sh", ".bash")


def gather(options: RunOptions, access: HostAccess) -> RunOptions:
    """The options with program, stdin, variables and token read, every other path checked: all before a create. Raises Failure."""
    variables: dict[str, str] = {}
    for given in options.env_files:
        variables |= env_file(given, access)
    variables |= {name: access.variable(name) for name in options.env_names}
    options = replace(options, env={**variables, **options.env})
    options = with_program(from_stdin(options), access)
    if options.stdin is not None:
        options = replace(
            options, stdin_data=access.read("--stdin", options.stdin, limit=LARGEST_TRANSFER)
        )
    if options.repo is not None and options.repo.token_name is not None:
        options = replace(
            options,
            repo=replace(
                options.repo, token=access.git_token(options.repo.token_name, options.repo.url)
            ),
        )
    check_places(options, access)
    return options


def from_stdin(options: RunOptions) -> RunOptions:
    """The program that a `-` stands for."""
    if FROM_STDIN not in (*options.commands, options.code, options.file):
        return options
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
    if options.commands:
        return replace(
            options,
            commands=tuple(
                text if command == FROM_STDIN else command for command in options.commands
            ),
        )
    return replace(options, code=text, file=None, language=options.language or "python")


def check_places(options: RunOptions, access: HostAccess) -> None:
    """What will be read and written later, refused now: then nothing has been created yet."""
    for text in options.uploads:
        upload_pair(text, access)
    for text in options.downloads:
        download_pair(text, access, force=options.force)
    if options.charts is not None:
        if options.language != "python":
            raise UsageFailure(
                "--charts saves the charts of Python code", fix="use --code, or a .py file"
            )
        refuse_taken(
            "--charts",
            f"{options.charts.rstrip('/')}/{chart_name(1)}",
            access,
            force=options.force,
        )


def secrets_of(options: RunOptions) -> list[str]:
    """What redaction must find, besides the account's own."""
    token = options.repo.token if options.repo is not None else None
    return [*options.env.values(), *([token] if token else [])]


def with_program(options: RunOptions, access: HostAccess) -> RunOptions:
    """--file as if its text had been given by --code or --command."""
    file = options.file
    if file is None:
        return options
    text = access.text("--file", file, limit=LARGEST_TEXT)
    if not text.strip():
        raise UsageFailure(
            f"--file {quote_path(file)} is empty", fix="name a file with a program in it"
        )
    suffix = PurePath(file).suffix.lower()
    language = options.language or LANGUAGE_OF.get(suffix)
    if language is None and suffix not in SHELL:
        raise UsageFailure(
            f"--file {quote_path(file)}: no language goes by that ending",
            fix="--language python, javascript or typescript",
        )
    return (
        replace(options, code=text, language=language)
        if language
        else replace(options, commands=(text,))
    )


def env_file(given: str, access: HostAccess) -> dict[str, str]:
    """NAME=VALUE lines. Nothing is expanded: `${NAME}` would read this machine's variables. Values are in no message."""
    from dotenv import dotenv_values

    text = access.text("--env-file", given, limit=LARGEST_TEXT)
    found: dict[str, str] = {}
    for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items():
        if value is None or not re.fullmatch(ENV_NAME, name):
            raise UsageFailure(
                f"--env-file {quote_path(given)} has a line that is not NAME=VALUE",
                fix="write NAME=VALUE, a line each",
            )
        found[name] = value
    return found


def refuse_foreign_account(options: RunOptions, settings: Settings) -> None:
    """A key from a file here may be a stranger's, whose account would be given the user's own variables; raises Failure."""
    token = options.repo is not None and options.repo.token_name is not None
    if (options.env_names or options.env_files or token) and settings.key_source in DOTENV_FILES:
        raise Failure(
            "host_access",
            f"variables of this machine are not passed to an account whose key is from {settings.key_source}",
            fix="export DAYTONA_API_KEY, so that the account is surely yours",
        )
