"""Reading Dockerfiles: lines, variables, and the words of a refusal."""

from __future__ import annotations

import pytest

from local_daytona.api.builds.dockerfile import (
    MOST_VARIABLES,
    Step,
    add_variables,
    base_of,
    pairs,
    program,
    refuse_unsupported,
    steps_of,
)
from local_daytona.errors import BuildProblem


def test_comments_blank_lines_and_continued_lines_are_joined_under_the_first_lines_number() -> None:
    """errorReason names the line that the user sees in an editor."""
    text = "# syntax=x\nFROM a\n\nRUN one \\\n  # between\n  && two\nenv A=1\n"

    assert steps_of(text) == [
        Step(2, "FROM", "a"),
        Step(4, "RUN", "one   && two"),
        Step(7, "ENV", "A=1"),
    ]


def test_from_takes_a_platform_a_stage_name_and_an_argument() -> None:
    """What people write before the image's name does not hide it."""
    name, steps = base_of(
        steps_of("ARG BASE=daytona-small\nFROM --platform=linux/amd64 ${BASE} AS one\nRUN x\n")
    )

    assert (name, [step.word for step in steps]) == ("daytona-small", ["RUN"])


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "RUN x\n", "FROM\n", "FROM --platform=linux/amd64\n"]
)
def test_a_dockerfile_without_from_is_no_dockerfile(text: str) -> None:
    """There is nothing to build on, so the request itself is wrong."""
    with pytest.raises(ValueError, match="must begin with a FROM"):
        base_of(steps_of(text))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("COPY . /app", "line 3: COPY . /app: local Daytona takes no build contexts"),
        ("ADD a b", "upload_file"),
        ("FROM b", "in one stage"),
        ("HEALTHCHECK NONE", "carries out RUN, ENV"),
        ("RUN --mount=type=cache,target=/x true", "no options of RUN"),
        ("RUN <<EOF", "here-documents"),
        ("RUN", "needs an argument"),
        ("EXEC x", "line 3"),
    ],
)
def test_a_line_that_cannot_be_carried_out_is_named_with_its_number(line: str, words: str) -> None:
    """The user can go to that line, and learns the way out."""
    steps = steps_of(f"FROM a\nRUN true\n{line}\n")[1:]

    with pytest.raises(BuildProblem, match="line 3") as caught:
        refuse_unsupported(steps)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("A=1 B='two words'", {"A": "1", "B": "two words"}),
        ("PATH=/x:$PATH", {"PATH": "/x:/bin"}),
        ("A=${NONE:-d}${NONE}", {"A": "d"}),
        ("A some text", {"A": "some text"}),
    ],
)
def test_variables_are_quoted_and_filled_in_as_docker_does(
    rest: str, expected: dict[str, str]
) -> None:
    """PATH is extended, not replaced, by the usual line."""
    assert pairs(Step(1, "ENV", rest), {"PATH": "/bin"}) == expected


@pytest.mark.parametrize("rest", ["A", "1=2", "A='open"])
def test_a_bad_variable_is_a_problem_of_its_line(rest: str) -> None:
    """It ends in build_failed, not in a failure of the server."""
    with pytest.raises(BuildProblem, match="line 1"):
        pairs(Step(1, "ENV", rest), {})


def test_a_program_is_a_list_or_a_line_for_the_shell() -> None:
    """Text that only begins like JSON is a line for the shell, as Docker has it."""
    assert program(Step(1, "RUN", '["a", "b c"]')) == ["a", "b c"]
    assert program(Step(1, "RUN", "[ -d /tmp ]")) == ["/bin/sh", "-c", "[ -d /tmp ]"]


def add_all(known: dict[str, str], steps: list[Step]) -> None:
    for step in steps:
        add_variables(step, known, known)


@pytest.mark.parametrize("word", ["ENV", "ARG"])
def test_variables_that_name_each_other_do_not_fill_the_memory(word: str) -> None:
    """Each line may make sixteen of the one before: seven make gigabytes."""
    known = {"A": "x" * 64}
    with pytest.raises(BuildProblem, match="128 KiB"):
        add_all(known, [Step(line, word, "A=" + "$A" * 16) for line in range(1, 8)])

    assert len(known["A"]) < MOST_VARIABLES


def test_many_variables_together_are_bounded() -> None:
    """A short line can add a long value, and a Dockerfile has many lines."""
    known = {"A": "x" * 60_000}
    with pytest.raises(BuildProblem, match="128 KiB"):
        add_all(known, [Step(line, "ENV", f"B{line}=$A") for line in range(1, 5)])


def test_a_base_that_grows_is_a_problem_too() -> None:
    """Before a FROM there are ARGs."""
    lines = ["ARG A=" + "x" * 64, *["ARG A=" + "$A" * 16] * 7, "FROM $A"]
    with pytest.raises(BuildProblem, match="128 KiB"):
        base_of(steps_of("\n".join(lines)))
