"""What a run takes from this machine, and that it is all read before anything is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_kit.arguments import parse_run_arguments
from sandbox_kit.errors import Failure
from sandbox_kit.host_access.gate import MORE_PATHS, PASSED_NAMES, HostAccess
from sandbox_kit.request import Program, RunRequest, read_run_request, refuse_foreign_account
from sandbox_kit.settings import Settings


def read_request(folder: Path, *argv: str, **environ: str) -> RunRequest:
    return read_run_request(parse_run_arguments(argv), HostAccess.of(environ, folder))


@pytest.mark.parametrize(
    ("name", "flags", "language"),
    [
        ("a.py", (), "python"),
        ("a.MJS", (), "javascript"),
        ("a.ts", (), "typescript"),
        ("a.txt", ("--language", "python"), "python"),
        ("a.sh", (), None),
    ],
)
def test_the_ending_says_the_language(
    tmp_path: Path, name: str, flags: tuple[str, ...], language: str | None
) -> None:
    """Unless --language does; a shell script is a command."""
    (tmp_path / name).write_text("text")
    request = read_request(tmp_path, "--file", name, *flags)

    assert request.programs == (Program("text", language, file=name),)
    assert request.programs[0].label == (name if language else "text")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.rb", b"x"), ("a.py", b" \n"), ("a.py", b"\xff\xfe\x00")],
    ids=["ending", "empty", "binary"],
)
def test_a_file_that_cannot_be_run_is_a_usage_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """Before anything is created."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Failure) as caught:
        read_request(tmp_path, "--file", name)

    assert caught.value.kind == "usage"


def test_variables_come_in_order_and_nothing_is_expanded(tmp_path: Path) -> None:
    """The command line wins over names, names over the file; ${NAME} in a file is text.

    Else it would read this machine's variables.
    """
    (tmp_path / "app.vars").write_text("A=file\nB=file\nexport C='${SECRET}'\n# no\n")
    request = read_request(
        tmp_path,
        "--command",
        "true",
        "--env-file",
        "app.vars",
        "--env",
        "B",
        "--env",
        "D=line",
        **{PASSED_NAMES: "B", "B": "host", "SECRET": "leak"},
    )

    assert request.env == {"A": "file", "B": "host", "C": "${SECRET}", "D": "line"}


def test_a_bare_name_in_an_env_file_is_refused_without_showing_values(tmp_path: Path) -> None:
    """docker would take it from the host; and the file is full of secrets."""
    (tmp_path / "app.vars").write_text("TOKEN=hunter2hunter2\nBARE\n")
    with pytest.raises(Failure) as caught:
        read_request(tmp_path, "--command", "true", "--env-file", "app.vars")

    assert caught.value.kind == "usage"
    assert "hunter2" not in caught.value.message + caught.value.fix


def test_values_are_not_in_the_options_repr(tmp_path: Path) -> None:
    """A repr ends up in tracebacks."""
    (tmp_path / "app.vars").write_text("TOKEN=hunter2hunter2\n")

    assert "hunter2" not in repr(
        read_request(tmp_path, "--command", "true", "--env-file", "app.vars")
    )


@pytest.mark.parametrize("flag", ["--env", "--env-file"])
def test_a_strangers_account_is_given_nothing_of_ours(tmp_path: Path, flag: str) -> None:
    """A repository's own .env may hold a key: what the sandbox is given, its owner can read."""
    (tmp_path / "app.vars").write_text("A=1\n")
    request = read_request(
        tmp_path,
        "--command",
        "true",
        flag,
        {"--env": "A", "--env-file": "app.vars"}[flag],
        **{PASSED_NAMES: "A", "A": "1", MORE_PATHS: ""},
    )
    settings = Settings(engine="cloud", endpoint="https://x/api", key_source=".env", api_key="k")

    with pytest.raises(Failure) as caught:
        refuse_foreign_account(request, settings)
    assert caught.value.kind == "host_access"
    refuse_foreign_account(
        request,
        Settings(
            engine="cloud", endpoint="https://x/api", key_source="the environment", api_key="k"
        ),
    )


def test_env_values_may_hold_equal_signs_and_nothing(tmp_path: Path) -> None:
    """Only the first sign separates."""
    request = read_request(tmp_path, "--command", "true", "--env", "A=b=c", "--env", "E=")

    assert request.env == {"A": "b=c", "E": ""}


def test_env_values_are_in_no_repr(tmp_path: Path) -> None:
    """A traceback shows requests."""
    assert "hunter22" not in repr(
        read_request(tmp_path, "--command", "true", "--env", "A=hunter22")
    )
