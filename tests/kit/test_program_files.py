"""--file and text from Windows: where a program runs, by what, and what is said of the others."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tests.local_server import LocalServer

from .script_runner import Script

BESIDE = (
    "import os, pathlib, helper\n"
    "here = pathlib.Path(__file__).parent\n"
    "print((here / 'data.txt').read_text(), helper.NAME, here.name, os.getcwd())\n"
)


@pytest.fixture
def tool(scripts_environment: Path) -> Path:
    """A program of several files in a folder of the project."""
    folder = scripts_environment / "tool"
    folder.mkdir()
    (folder / "main.py").write_text(BESIDE)
    (folder / "helper.py").write_text("NAME = 'sibling'\n")
    (folder / "data.txt").write_text("data")
    (folder / "run.sh").write_text('cat "$(dirname "$0")/data.txt"; echo " $1"\n')
    return folder


@pytest.mark.parametrize(
    ("upload", "where"),
    [(".", "tool"), ("tool", "tool"), ("tool:elsewhere", "elsewhere"), ("tool:/tmp/up", "up")],
)
def test_a_file_runs_where_the_upload_has_it(
    run: Script, tool: Path, upload: str, where: str
) -> None:
    """It opens files beside itself and imports its siblings; the working directory is as ever."""
    result = run("--local", "--upload", upload, "--file", "tool/main.py")

    assert result.stdout == f"data sibling {where} /home/daytona\n"


def test_a_file_runs_in_place_from_another_working_directory(run: Script, tool: Path) -> None:
    """--cwd is inside, --file is here: each is what it is alone."""
    result = run("--local", "--upload", ".", "--cwd", "tool", "--file", "tool/main.py")

    assert result.stdout == "data sibling tool /home/daytona/tool\n"


def test_a_shell_script_runs_in_place_with_its_arguments(run: Script, tool: Path) -> None:
    """By `$0`, as scripts find what lies beside them."""
    result = run("--local", "--upload", ".", "--file", "tool/run.sh", "--", "a b")

    assert result.stdout == "data a b\n"


def test_javascript_runs_in_place(run: Script, tool: Path) -> None:
    """`require` looks beside the file."""
    if run("--local", "--command", "command -v node").code != 0:
        pytest.skip("no node on this host")
    (tool / "one.js").write_text("console.log(require('./two.js').two)\n")
    (tool / "two.js").write_text("exports.two = 2\n")

    assert run("--local", "--upload", ".", "--file", "tool/one.js").stdout == "2\n"


def test_a_file_that_the_upload_leaves_out_runs_all_the_same(run: Script, tool: Path) -> None:
    """What is ignored does not travel; its text does, as without an upload."""
    (tool.parent / ".gitignore").write_text("left.py\n")
    (tool / "left.py").write_text("print('its text')\n")

    assert run("--local", "--upload", ".", "--file", "tool/left.py").stdout == "its text\n"


def test_another_file_of_that_name_is_not_run(run: Script, tool: Path, server: LocalServer) -> None:
    """In a sandbox of an earlier run the place may hold older text."""
    (tool.parent / ".gitignore").write_text("main.py\n")
    older = "mkdir -p tool; echo 'print(1)' > tool/main.py"
    run("--local", "--name", "older", "--command", older)
    (tool / "main.py").write_text("print('new')\n")
    result = run("--local", "--name", "older", "--upload", ".", "--file", "tool/main.py")
    server.request("DELETE", "/api/sandbox/older")

    assert result.stdout == "new\n"


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b""], ids=ascii)
def test_shell_text_of_windows_runs(
    run: Script, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    """`exit 3` with a CR behind it is bash's exit code 2, which is our own for wrong use."""
    piped(monkeypatch, b"echo one\r\nexit 3" + end)
    result = run("--local", "--command", "-")

    assert (result.code, result.stdout) == (3, "one\n")


def test_shell_text_of_windows_runs_wherever_it_is_given(
    run: Script, scripts_environment: Path
) -> None:
    """In a file, in --setup, as an argument."""
    (scripts_environment / "a.sh").write_bytes(b"if true\r\nthen echo file\r\nfi\r\n")
    crlf = "for word in arg\r\ndo echo $word\r\ndone\r\n"
    of_file = run("--local", "--file", "a.sh", "--upload", ".", "--setup", crlf)

    assert (of_file.code, of_file.stdout) == (0, "file\n")
    assert run("--local", "--command", crlf).stdout == "arg\n"


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("#!/bin/bash", "a=(1 2); echo ${a[1]}"),
        ("#!/usr/bin/env bash", "a=(1 2); echo ${a[1]}"),
        ("#!/bin/sh -e", "echo 2"),
        ("#!/usr/bin/env python3", "print(1 + 1)"),
        ("#!/usr/bin/env -S python3 -u", "print(1 + 1)"),
        ("#!/usr/bin/python3.11", "print(1 + 1)"),
    ],
)
@pytest.mark.parametrize("name", ["tool", "tool.txt"])
def test_a_first_line_says_what_runs_a_file(
    run: Script, scripts_environment: Path, first: str, rest: str, name: str
) -> None:
    """Where the ending does not."""
    (scripts_environment / name).write_text(f"{first}\n{rest}\n")

    assert run("--local", "--file", name).stdout == "2\n"


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        (
            "nb.ipynb",
            "--upload nb.ipynb --setup 'pip install nbconvert ipykernel' --command 'jupyter"
            " nbconvert --to notebook --execute --stdout nb.ipynb'",
        ),
        ("x.rb", "--upload x.rb --command 'ruby x.rb', with an --image that has ruby"),
        ("a b.pl", "--upload 'a b.pl' --command 'perl '\"'\"'a b.pl'\"'\"''"),
        ("x.unknown", "--upload x.unknown --command 'INTERPRETER x.unknown'"),
        ("a;b.unknown", "--command 'INTERPRETER '\"'\"'a;b.unknown'\"'\"''"),
    ],
)
def test_a_file_of_no_language_gets_a_line_that_runs_it(
    run: Script, scripts_environment: Path, name: str, fix: str
) -> None:
    """`--language python` would run a notebook's JSON as Python."""
    (scripts_environment / name).write_text("#!/usr/bin/env ruby\nx")
    result = run("--local", "--file", name)

    assert result.code == 2
    assert fix in result.fix


def test_stdin_of_a_dash_is_ours(run: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bytes, as of a file."""
    piped(monkeypatch, b"a\r\nb\x00\xff")
    result = run("--local", "--command", "od -An -tx1", "--stdin", "-")

    assert result.stdout.split() == ["61", "0d", "0a", "62", "00", "ff"]


@pytest.mark.parametrize("flag", ["--command", "--code", "--file"])
def test_one_stdin_is_not_read_twice(
    run: Script, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """The program would be its own input."""
    piped(monkeypatch, b"x")
    result = run("--local", flag, "-", "--stdin", "-")

    assert (result.code, result.fix) == (2, "name a file for one of them")


@pytest.mark.parametrize("argv", [("--command", "cat", "--stdin", "-"), ("--command", "-")])
def test_a_key_on_stdin_does_not_leave_this_machine(
    run: Script, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    """As in a file."""
    piped(monkeypatch, b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    result = run("--local", "--json", *argv)

    assert result.json()["error"]["kind"] == "host_access"


def test_a_kept_sandbox_can_be_fetched_from_alone(
    run: Script, server: LocalServer, scripts_environment: Path
) -> None:
    """With nothing to run in it."""
    run("--local", "--name", "work", "--command", "mkdir results; echo 1,2 > results/a.csv")
    result = run("--local", "--sandbox", "work", "--download", "results", "--json")
    missing = run("--local", "--sandbox", "work", "--download", "no")
    server.request("DELETE", "/api/sandbox/work")

    assert (result.code, result.json()["whose"]) == (0, None)
    assert (scripts_environment / "results" / "a.csv").read_text() == "1,2\n"
    assert missing.code == 125
    assert "no such file" in missing.stderr


@pytest.mark.parametrize(
    ("argv", "fix"),
    [
        (["--keep", "--download", "x"], "--command true makes the sandbox"),
        (["--keep"], "--command true makes the sandbox"),
        (["--name", "w", "--download", "x"], "--sandbox w in the place of --name"),
        (["--name", "w;id", "--download", "x"], "--sandbox 'w;id' in the place of --name"),
        (["--name", "w"], "--command true makes the sandbox"),
        (["--download", "x"], '--command "..."'),
        (["--sandbox", "x"], '--command "..."'),
        (["--commit", "v1.2", "--repo", "https://x.example/y.git"], '--command "..."'),
    ],
)
def test_nothing_to_run_ends_in_a_line_that_works(run: Script, argv: list[str], fix: str) -> None:
    """Whatever else was given."""
    result = run("--local", *argv)

    assert result.code == 2
    assert fix in result.fix


def test_a_commit_that_is_a_tag_is_not_sent_to_branch(run: Script) -> None:
    """Daytona clones branches and commits; a tag is neither."""
    result = run(
        *("--local", "--command", "true", "--repo", "https://x.example/y.git", "--commit", "v1.2")
    )

    assert result.code == 2
    assert "git ls-remote --tags" in result.fix
    assert "branch or tag" not in result.fix


@pytest.mark.skipif(os.name == "nt", reason="/dev/null")
def test_a_state_folder_that_cannot_be_made_is_named_with_a_variable_that_exists(
    run: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--state-dir is the server's own flag, which the scripts do not have."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", "/dev/null/state")
    result = run("--local", "--command", "true")

    assert result.code == 125
    assert "--state-dir" not in result.stderr
    assert "DAYTONA_LOCAL_STATE" in result.fix
