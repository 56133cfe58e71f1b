"""Reading a Dockerfile: its lines as steps, variables filled in, what cannot be carried out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...errors import BuildProblem

LARGEST = 256 * 1024
MOST_VARIABLES = 128 * 1024  # characters of all of them: what one request to a sandbox takes
TOO_LONG = "the variables are longer than 128 KiB"
CARRIED_OUT = ("RUN", "ENV", "ARG", "WORKDIR", "USER", "CMD", "ENTRYPOINT")
WITHOUT_EFFECT = ("LABEL", "EXPOSE", "MAINTAINER")
NO_CONTEXT = "local Daytona takes no build contexts; use sandbox.fs.upload_file after the create"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})")
# An option of RUN, or a here-document.
NOT_JUST_SHELL = re.compile(r"\A--|<<-?['\"]?[A-Za-z_]")
OWN_USERS = ("root", "daytona", "0", "0:0", "root:root", "daytona:daytona")
ONE_USER = "a sandbox of local Daytona has one user, daytona, which is root within it"


@dataclass(frozen=True)
class Step:
    """One instruction: the number of its first line, its word in capitals, and the rest."""

    line: int
    word: str
    rest: str

    def problem(self, reason: str) -> BuildProblem:
        return BuildProblem(self.line, str(self), reason)

    def __str__(self) -> str:
        text = f"{self.word} {self.rest}"
        return text if len(text) <= 200 else text[:200] + "..."


def steps_of(text: str) -> list[Step]:
    """The instructions of a Dockerfile, whichever they are.

    Comments and blank lines are left out, continued lines joined.
    """
    steps = []
    for line, content in logical_lines(text):
        word, _, rest = content.partition(" ")
        steps.append(Step(line, word.upper(), rest.strip()))
    return steps


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    first, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().replace("\t", " ") if not parts else raw.rstrip()
        if line.lstrip().startswith("#") or not line.strip():
            continue
        first = first if parts else number
        parts.append(line[:-1] if line.endswith("\\") else line)
        if not line.endswith("\\"):
            yield first, "".join(parts)
            parts = []
    if parts:
        yield first, "".join(parts)


def base_of(steps: list[Step]) -> tuple[str, list[Step]]:
    """What the first FROM names, and the steps after it; raises ValueError when it names none."""
    defaults: dict[str, str] = {}
    for place, step in enumerate(steps):
        if step.word == "FROM":
            names = [word for word in step.rest.split() if not word.startswith("--")]
            if not names:
                break
            return filled(step, names[0], defaults), steps[place + 1 :]
        if step.word != "ARG":
            break
        add_variables(step, defaults, defaults)
    raise ValueError("dockerfileContent must begin with a FROM that names a snapshot")


def refuse_unsupported(steps: list[Step]) -> None:
    """Raises the BuildProblem of the first line that local Daytona cannot carry out.

    Before anything is run.
    """
    for step in steps:
        if step.word in ("COPY", "ADD"):
            raise step.problem(NO_CONTEXT)
        if step.word == "FROM":
            raise step.problem("local Daytona builds in one stage")
        if step.word not in CARRIED_OUT + WITHOUT_EFFECT:
            raise step.problem(f"local Daytona carries out {', '.join(CARRIED_OUT)} only")
        if not step.rest:
            raise step.problem("it needs an argument")
        if step.word == "RUN" and NOT_JUST_SHELL.search(step.rest):
            raise step.problem("local Daytona knows no options of RUN and no here-documents")


def refuse_other_user(step: Step, variables: Mapping[str, str]) -> None:
    """Raises the BuildProblem of a USER that no sandbox has."""
    if filled(step, step.rest, variables) not in OWN_USERS:
        raise step.problem(ONE_USER)


def filled(step: Step, text: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}` and `${NAME:-default}` replaced; an unknown one is empty, as Docker's.

    Raises the BuildProblem where that is more than a program can be given: a few lines that name
    each other's variables often make gigabytes.
    """
    room = MOST_VARIABLES

    def value_of(found: re.Match[str]) -> str:
        nonlocal room
        value = variables.get(found[1] or found[2]) or found[3] or ""
        room -= len(value)
        if room < 0:
            raise step.problem(TOO_LONG)
        return value

    return VARIABLE.sub(value_of, text)


def add_variables(step: Step, variables: dict[str, str], known: Mapping[str, str]) -> None:
    """Those of an ENV or ARG; raises the BuildProblem, also when all together are too long."""
    variables.update(pairs(step, known))
    if sum(len(name) + len(value) for name, value in variables.items()) > MOST_VARIABLES:
        raise step.problem(TOO_LONG)


def pairs(step: Step, variables: Mapping[str, str]) -> dict[str, str]:
    """NAME=value of an ENV or ARG; raises the BuildProblem.

    Also of `ENV NAME the rest`, and of an ARG without a value.
    """
    first = step.rest.split(" ", 1)
    if step.word == "ENV" and "=" not in first[0]:
        if len(first) < 2 or not NAME.fullmatch(first[0]):
            raise step.problem("it must be NAME=value")
        return {first[0]: filled(step, first[1].strip(), variables)}
    result = {}
    for word in words(step):
        name, equals, value = word.partition("=")
        if not NAME.fullmatch(name) or (step.word == "ENV" and not equals):
            raise step.problem("it must be NAME=value")
        result[name] = filled(step, value, variables) if equals else variables.get(name, "")
    return result


def words(step: Step) -> list[str]:
    try:
        return shlex.split(step.rest)
    except ValueError as error:
        raise step.problem(str(error)) from None


def program(step: Step) -> list[str]:
    """The argv of a RUN, CMD or ENTRYPOINT: its JSON list, or the shell with its text."""
    if step.rest.startswith("["):
        try:
            argv = json.loads(step.rest)
        except (ValueError, RecursionError):
            argv = None
        if isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv):
            return argv
    return ["/bin/sh", "-c", step.rest]
