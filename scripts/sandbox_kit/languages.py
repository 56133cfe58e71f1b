"""The languages of --code and --file: one row each, with its endings and its command line."""

from __future__ import annotations


class Language:
    """One row. In `run` and `run_with_stdin`, {folder}, {name} and {stdin} are the program's.

    No dataclass: importing that module costs more than all of a --help.
    """

    __slots__ = ("endings", "name", "run", "run_with_stdin", "suffix")

    def __init__(
        self, name: str, endings: tuple[str, ...], run: str, run_with_stdin: str | None = None
    ) -> None:
        self.name = name
        self.endings = endings
        self.suffix = endings[0]  # of its file in the sandbox
        self.run = run
        self.run_with_stdin = run_with_stdin or run


LANGUAGES = (
    # The working directory is an import root, as in `python3 -c`; tracebacks show a file's lines.
    Language(
        "python",
        (".py",),
        'PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}"'
        ' exec python3 -u {folder}/{name} "$@" <{stdin}\n',
    ),
    # From stdin, code finds the modules of the working directory, also by `import`; with a stdin
    # of the program's own only `require` does.
    Language(
        "javascript",
        (".js", ".mjs", ".cjs"),
        'exec node - "$@" <{folder}/{name}\n',
        'NODE_PATH="$PWD/node_modules${{NODE_PATH:+:$NODE_PATH}}"'
        ' exec node {folder}/{name} "$@" <{stdin}\n',
    ),
    Language("typescript", (".ts",), 'exec npx ts-node -T {folder}/{name} "$@" <{stdin}\n'),
)
NAMES = tuple(language.name for language in LANGUAGES)
SHELL_ENDINGS = (".sh", ".bash")  # a --file that is run as a --command


def find_language(name: str) -> Language:
    """Raises KeyError for a name that is not in NAMES."""
    return {language.name: language for language in LANGUAGES}[name]


def language_of_ending(ending: str) -> str | None:
    """The name of the language whose files end so; None for no language's."""
    return next((found.name for found in LANGUAGES if ending in found.endings), None)


# Of files that are no language of ours: what starts them in a sandbox that has it.
OTHER_PROGRAMS = {
    ".go": "go run",
    ".java": "java",
    ".jl": "julia",
    ".lua": "lua",
    ".php": "php",
    ".pl": "perl",
    ".r": "Rscript",
    ".rb": "ruby",
}
NOTEBOOK = ".ipynb"
RUN_NOTEBOOK = "jupyter nbconvert --to notebook --execute --stdout"
INSTALL_NOTEBOOK = "pip install nbconvert ipykernel"
SHELL = "shell"
# What a first line names: of a file without an ending that says more.
INTERPRETERS = (
    (r"python[\d.]*", "python"),
    (r"node(js)?", "javascript"),
    (r"ts-node", "typescript"),
    (r"(ba|da|a)?sh", SHELL),
)


def language_of_shebang(text: str) -> str | None:
    """A language's name or SHELL by `#!/usr/bin/env NAME` or `#!/bin/NAME`; None for others."""
    import re

    match = re.match(r"#! ?\S*/(?:env +(?:-\S+ +)*)?(\S+)", text)
    if match is None:
        return None
    name = match[1].rpartition("/")[2]
    return next((found for words, found in INTERPRETERS if re.fullmatch(words, name)), None)
