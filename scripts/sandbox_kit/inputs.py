"""What a run takes from this machine, each thing through `host_access`: the file to run, variables by file and by name."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import PurePath

from .failures import Failure, UsageFailure
from .host_access import HostAccess, shown
from .options import ENV_NAME, RunOptions
from .settings import DOTENV_FILES, Settings

LARGEST_TEXT = 8 << 20
LANGUAGE_OF = {".py": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".ts": "typescript"}
SHELL = (".sh", ".bash")


def gather(options: RunOptions, access: HostAccess) -> RunOptions:
    """The options with file and variables read; raises Failure before anything is created."""
    variables: dict[str, str] = {}
    for given in options.env_files:
        variables |= env_file(given, access)
    variables |= {name: access.variable(name) for name in options.env_names}
    options = replace(options, env={**variables, **options.env})
    return options if options.file is None else with_program(options, options.file, access)


def with_program(options: RunOptions, file: str, access: HostAccess) -> RunOptions:
    """--file as if its text had been given by --code or --command."""
    text = access.text("--file", file, limit=LARGEST_TEXT)
    if not text.strip():
        raise UsageFailure(f"--file {shown(file)} is empty", fix="name a file with a program in it")
    suffix = PurePath(file).suffix.lower()
    language = options.language or LANGUAGE_OF.get(suffix)
    if language is None and suffix not in SHELL:
        raise UsageFailure(f"--file {shown(file)}: no language goes by that ending", fix="--language python, javascript or typescript")
    return replace(options, code=text, language=language) if language else replace(options, command=text)


def env_file(given: str, access: HostAccess) -> dict[str, str]:
    """NAME=VALUE lines. Nothing is expanded: `${NAME}` would read this machine's variables. Values are in no message."""
    from dotenv import dotenv_values

    text = access.text("--env-file", given, limit=LARGEST_TEXT)
    found: dict[str, str] = {}
    for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items():
        if value is None or not ENV_NAME.fullmatch(name):
            raise UsageFailure(f"--env-file {shown(given)} has a line that is not NAME=VALUE", fix="write NAME=VALUE, a line each")
        found[name] = value
    return found


def refuse_foreign_account(options: RunOptions, settings: Settings) -> None:
    """A key from a file here may be a stranger's, whose account would be given the user's own variables; raises Failure."""
    if (options.env_names or options.env_files) and settings.key_source in DOTENV_FILES:
        raise Failure(
            "host_access", f"variables of this machine are not passed to an account whose key is from {settings.key_source}",
            fix="export DAYTONA_API_KEY, so that the account is surely yours",
        )  # fmt: skip
