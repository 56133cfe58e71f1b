"""What is hidden of a run's values: what is secret, in every form in which we print it."""

from __future__ import annotations

import json
import os
import random
import string
from pathlib import Path

import pytest

from sandbox_kit.console import CUT, LONGEST_SHOWN
from sandbox_kit.host_access.gate import PASSED_NAMES
from sandbox_kit.redaction import REDACTED, Redactor, overlap_length, secret_values
from tests.local_server import LocalServer

from .script_runner import Script


def test_a_harmless_value_stays_in_the_output(run: Script) -> None:
    """NODE_ENV=production must not take a word out of `optimized production build`."""
    result = run(
        "--local",
        *("--env", "NODE_ENV=production", "--env", "LOG_LEVEL=verbose", "--env", "MAX_TOKENS=4096"),
        *("--command", "echo optimized $NODE_ENV build, $LOG_LEVEL, $MAX_TOKENS"),
    )

    assert result.stdout == "optimized production build, verbose, 4096\n"


@pytest.mark.parametrize(
    "name",
    [
        "TOKEN",
        "API_KEY",
        "githubToken",
        "DBPASSWORD",
        "MYSQL_PWD",
        "AUTHORIZATION",
        "AWS_SECRET_ACCESS_KEY",
        "CREDENTIALS",
        "pass",
    ],
)
def test_a_name_that_says_secret_hides_its_value_from_four_characters_on(
    run: Script, name: str
) -> None:
    """Whatever its spelling."""
    result = run("--local", "--env", f"{name}=pw12", "--command", f'echo "is ${name}"')

    assert result.stdout == "is [redacted]\n"


@pytest.mark.parametrize("name", ["AUTHOR", "MONKEY", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD2"])
def test_a_name_that_only_sounds_like_a_secret_hides_nothing(name: str) -> None:
    """A part of a word is not the word."""
    assert secret_values({name: "value"}) == {}


def test_a_password_in_an_address_is_hidden_whatever_its_name(run: Script) -> None:
    """DATABASE_URL and its like hold one, and the rest of the address may be seen."""
    address = "postgres://app:hunter22@db.example/x"
    result = run("--local", "--env", f"STORE={address}", "--command", "echo $STORE")

    assert result.stdout == "postgres://app:[redacted]@db.example/x\n"


def test_what_is_from_this_machine_is_hidden_whatever_its_name(
    run: Script, scripts_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user passed it on by name or by file; its own name may say nothing."""
    monkeypatch.setenv("PLAIN", "from-here")
    monkeypatch.setenv(PASSED_NAMES, "PLAIN")
    (scripts_environment / "app.vars").write_text("OTHER=of-a-file\n")
    result = run(
        "--local",
        *("--env", "PLAIN", "--env-file", "app.vars", "--command", "echo $PLAIN $OTHER"),
    )

    assert result.stdout == "[redacted] [redacted]\n"


def test_a_value_too_short_to_hide_is_said_once(run: Script) -> None:
    """Three characters would take any text apart, so the user learns that they are shown."""
    result = run(
        "--local", "--env", "TOKEN=abc", "--env", "N=1", "--command", "echo $TOKEN; echo $TOKEN"
    )

    assert result.stdout == "abc\nabc\n"
    lines = [line for line in result.stderr.splitlines() if "shorter than 4 characters" in line]
    assert lines == [
        "[sandbox] not hidden in the output, because shorter than 4 characters: the value of TOKEN"
    ]


ODD = {
    "CRLF": "first half\r\nsecond half",
    "CR": "first half\rsecond half",
    "ESC": "first \x1b[31mhalf\x1b[0m second",
    "BEL": "first\x07second",
    "alphabet": "gehe\u00efm-\u00fc\u4f60-wort",
    "blanks": "first   half\t second",
    "line end": "first-and-second\n",
    "invisible": "first\u200bsecond",
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("raw", [False, True], ids=["filtered", "raw"])
def test_a_value_with_odd_characters_is_found_in_all_that_is_printed(
    run: Script, value: str, raw: bool
) -> None:
    """Its escapes and CRs are dropped on the way, and our own lines spell other alphabets out."""
    found = run(
        "--local",
        "--json",
        *(["--max-output", "0"] if raw else []),
        *("--env", f"TOKEN={value}", "--download", "no" + value.strip("\n")),
        *("--command", 'printf "<%s>" "$TOKEN"; printf "<%s>" $(printf "%s" "$TOKEN") >&2'),
    )
    answer = found.json()
    shown = " ".join((answer["stdout"], json.dumps(answer["error"]), found.stderr))

    assert answer["stdout"].rstrip("\n") == "<[redacted]>"
    for part in ("half", "second", "wort"):
        assert part not in shown, shown


def test_bytes_that_are_no_text_are_found_as_they_are_shown(
    run: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable may hold any bytes; in what we print they are replaced."""
    monkeypatch.setenv("RAW", os.fsdecode(b"caf\xe9-secret"))
    monkeypatch.setenv(PASSED_NAMES, "RAW")

    assert run("--local", "--env", "RAW", "--command", "echo $RAW").stdout == "[redacted]\n"


def test_a_secret_that_is_a_word_of_ours_leaves_the_json_whole(run: Script) -> None:
    """Keys, and words that say whose something is, are not a program's."""
    result = run("--local", "--json", "--env", "TOKEN=exit_code", "--command", "echo $TOKEN")

    assert result.json()["stdout"] == "[redacted]\n"
    assert (result.json()["exit_code"], result.json()["whose"]) == (0, "program")


def test_what_stands_for_a_secret_is_not_taken_for_another() -> None:
    """One pass over the text."""
    assert Redactor(["first-secret", "redacted"]).clean("a first-secret") == "a [redacted]"


def test_the_log_of_a_detached_program_hides_the_accounts_key(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """It cannot know the values of the run that started the program, and the run says so."""
    started = run(
        "--local",
        *("--json", "--detach", "--env", "TOKEN=value-of-a-run"),
        *("--command", f"printf '%s %s' \"$TOKEN\" {server.api_key}"),
    )
    sandbox = started.json()["sandbox"]["id"]
    sandboxes_script("wait", sandbox, "--local")
    shown = [
        sandboxes_script("logs", sandbox, "--local", *more)
        for more in ([], ["--max-output", "0"], ["--json"])
    ]
    sandboxes_script("delete", sandbox, "--local")

    assert [found.stdout for found in shown[:2]] == ["value-of-a-run [redacted]\n"] * 2
    assert shown[2].json()["stdout"] == "value-of-a-run [redacted]\n"
    assert "both hide only the account's key" in started.stderr


SECRET = "sk-live-0123456789abcdef"


@pytest.mark.parametrize("kept", [4, 12, len(SECRET) - 1])
def test_a_cut_line_does_not_show_the_beginning_of_a_secret(kept: int) -> None:
    """Of a name as long as a line may be, a part of a secret would be the last that one reads."""
    line = f"name {SECRET[:kept]}{CUT} and more"

    assert Redactor([SECRET]).clean_line(line) == f"name {REDACTED}{CUT} and more"


def test_a_cut_name_of_a_file_does_not_show_the_beginning_of_a_secret(run: Script) -> None:
    """The name is cut before the line is looked through."""
    name = "x" * (LONGEST_SHOWN - 10)
    result = run(
        *("--local", "--json", "--env", f"TOKEN={SECRET}"),
        *("--command", f'mkdir out; echo 1 >"out/{name}$TOKEN.py"', "--download", "out:results"),
    )

    assert name in result.stdout
    assert SECRET[:8] not in result.stdout + result.stderr


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 200])
@pytest.mark.parametrize("alphabet", ["a", "ab", string.ascii_letters])
def test_what_may_begin_a_secret_is_found_whatever_it_repeats(alphabet: str, length: int) -> None:
    """As by trying every end of the text, which takes the square of the time."""
    chance = random.Random(f"{alphabet}{length}")
    for _ in range(40):
        secret = "".join(chance.choices(alphabet, k=length))
        text = "".join(chance.choices(alphabet, k=50)) + secret[: chance.randrange(length)]
        sizes = range(min(length - 1, len(text)), 0, -1)
        longest = next((size for size in sizes if secret.startswith(text[-size:])), 0)

        assert overlap_length(text, secret) == longest


def test_of_secrets_that_overlap_the_first_and_the_longest_is_hidden() -> None:
    """None is left in pieces that say what it was."""
    redactor = Redactor(["abcdef", "abcd", "cdefgh", "wxyz"])

    assert redactor.clean("-abcdefgh-abcd-cdefgh-wxyzwxyz") == (
        f"-{REDACTED}gh-{REDACTED}-{REDACTED}-{REDACTED}{REDACTED}"
    )


def test_a_hint_that_lost_a_part_of_it_is_not_shown(run: Script, scripts_environment: Path) -> None:
    """Without its quotes it is another command, with a stranger's name in it."""
    project = scripts_environment / "project"
    project.mkdir()
    for name in ("a.txt", "q$(touch PWNED)_credentials.txt"):
        (project / name).write_text("1")
    words = ("--local", "--upload", "project", "--command", "true")
    plain, redacted = run(*words), run(*words, "--env", "TOKEN=PATHS='")

    assert "the user may allow it: export DAYTONA_SANDBOX_PATHS='" in plain.stderr
    assert "left here: " in redacted.stderr
    assert "the user may allow it" not in redacted.stderr
