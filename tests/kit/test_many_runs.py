"""--each: the same program once a value, each in a sandbox of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_kit.many_runs import short_label
from sandbox_kit.ownership import RunIdentity, User
from sandbox_kit.request import place_of_value
from tests.local_server import LocalServer

from .script_runner import Script


def test_each_value_is_the_first_argument_and_a_variable(run: Script, server: LocalServer) -> None:
    """Lines have their value before them, whole, whoever is quicker; nothing is left."""
    result = run(
        *("--local", "--each", "b", "--each", "a c", "--command", 'printf "$1 $2\\n$EACH"'),
        *("--", "more"),
    )

    assert result.code == 0
    assert sorted(result.stdout.splitlines()) == ["a c: a c", "a c: a c more", "b: b", "b: b more"]
    assert server.sandboxes() == []
    assert "2 of 2 done" in result.stderr


def test_code_has_them_too(run: Script) -> None:
    """As sys.argv[1], before arguments of its own."""
    result = run("--local", "--each", "7", "--code", "import sys; print(int(sys.argv[1]) * 6)")

    assert (result.code, result.stdout) == (0, "7: 42\n")


def test_the_json_has_a_result_for_each_value_in_the_order_given(
    run: Script, scripts_environment: Path
) -> None:
    """One object; its exit code and error are those of the first value that failed."""
    (scripts_environment / "values").write_text("slow\n\n3\n4\nok\n")
    result = run(
        *("--local", "--json", "--each-file", "values", "--jobs", "4", "--timeout", "20"),
        *("--command", '[ $EACH = slow ] && sleep 1; [ $EACH = ok ] || exit "$EACH" 2>/dev/null'),
    )
    answer = result.json()

    assert [each["value"] for each in answer["each"]] == ["slow", "3", "4", "ok"]
    assert [each["exit_code"] for each in answer["each"]][1:] == [3, 4, 0]
    assert (result.code, answer["exit_code"]) == (answer["each"][0]["exit_code"],) * 2
    assert answer["engine"] == "local"
    assert answer["error"] is None
    assert "not: slow, 3, 4" in result.stderr


def test_what_comes_back_has_a_folder_for_each_value(
    run: Script, scripts_environment: Path
) -> None:
    """HERE/NNN-slug, or else `results`; what is no result is held, as ever."""
    command = 'mkdir o; echo "a,$1" >o/report.csv; echo x >o/run.sh; echo 1,2 >"report.csv"'
    result = run(
        *("--local", "--json", "--each", "North/East", "--each", "..", "--command", command),
        *("--download", "o", "--download", "report.csv:output"),
    )
    answer = result.json()
    saved = [sorted(file["path"] for file in each["files"]) for each in answer["each"]]

    assert result.code == 0
    assert saved == [
        ["output/001-north-east/report.csv", "results/001-north-east/report.csv"],
        ["output/002/report.csv", "results/002/report.csv"],
    ]
    assert (scripts_environment / "results/002/report.csv").read_text() == "a,..\n"
    assert [each["held"][0]["path"] for each in answer["each"]] == [
        "results/001-north-east/run.sh",
        "results/002/run.sh",
    ]


def test_a_place_that_is_taken_is_refused_before_anything_is_created(
    run: Script, scripts_environment: Path, server: LocalServer
) -> None:
    """The chart of the second value would go where something lies."""
    taken = scripts_environment / "charts" / "002-b"
    taken.mkdir(parents=True)
    (taken / "chart-1.png").write_text("mine")
    result = run("--local", "--each", "a", "--each", "b", "--charts", "charts", "--code", "1")

    assert result.code == 125
    assert "charts/002-b/chart-1.png is there already, and it is yours" in result.stderr
    assert server.sandboxes() == []


def test_one_upload_serves_all(run: Script, scripts_environment: Path) -> None:
    """It is packed once; each sandbox has its own copy."""
    (scripts_environment / "data.txt").write_text("seen\n")
    result = run(
        *("--local", "--upload", "data.txt", "--each", "1", "--each", "2"),
        *("--command", "cat data.txt; rm data.txt"),
    )

    assert sorted(result.stdout.splitlines()) == ["1: seen", "2: seen"]


def test_together_they_print_no_more_than_one(run: Script) -> None:
    """A hundred values of 16,000 characters each would fill any context."""
    words = [word for number in range(4) for word in ("--each", str(number))]
    result = run(
        *("--local", "--max-output", "4000", *words),
        *("--code", "print('x' * 50 + '\\n', end='') or [print('y' * 50) for _ in range(200)]"),
    )

    assert len(result.stdout) < 8000
    assert result.stdout.count("characters left out") == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--each", "a"), "nothing to run"),
        (("--each", "a", "--command", "x", "--keep"), "--keep has no place"),
        (("--each", "a", "--command", "x", "--name", "n"), "--name has no place"),
        (("--each", "a", "--command", "x", "--dry-run"), "--dry-run has no place"),
        (("--jobs", "2", "--command", "x"), "--jobs needs --each"),
        (("--each", "a", "--jobs", "99", "--command", "x"), "not between 1 and 50"),
        (("--each-file", "nothing-here", "--command", "x"), "nothing-here"),
        (("--each-file", "empty", "--command", "x"), "no line holds a value"),
        (("--each-file", ".env", "--command", "x"), "dotfile"),
        (("--each-file", "binary", "--command", "x"), "a line holds a NUL"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Script,
    scripts_environment: Path,
    server: LocalServer,
    words: tuple[str, ...],
    said: str,
) -> None:
    """In one line with what to type; nothing is created."""
    (scripts_environment / "empty").write_text("\n \n")
    (scripts_environment / "binary").write_bytes(b"a\nb\0c\n")
    (scripts_environment / ".env").write_text("A=1\n")
    result = run("--local", *words)

    assert result.code in (2, 125)
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].startswith("fix: ")
    assert server.sandboxes() == []


def test_a_value_of_a_file_is_its_whole_line(run: Script, scripts_environment: Path) -> None:
    """Whatever is in it: other systems' line ends, and characters that some call one."""
    (scripts_environment / "values").write_bytes("a\x0cb\r\nc\u2028d\n".encode())
    answer = run("--local", "--json", "--each-file", "values", "--command", 'printf %s "$1"').json()

    assert [each["value"] for each in answer["each"]] == ["a\x0cb", "c\u2028d"]
    assert [each["exit_code"] for each in answer["each"]] == [0, 0]


def test_two_names_say_how_all_are_called() -> None:
    """Whoever is killed knows what the server is about to delete."""
    made = [one.name for one in RunIdentity.many(User("a" * 32), 300)]

    assert made == sorted(made)
    assert {name[:-3] for name in made} == {made[0][:-3]}
    assert (made[0][-3:], made[-1][-3:]) == ("001", "12c")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("A b", "out/007-a-b/"),
        ("../../etc", "out/007-etc/"),
        ("\x1b[31m", "out/007-31m/"),
        ("é", "out/007/"),
        ("x" * 99, f"out/007-{'x' * 30}/"),
    ],
)
def test_a_folder_is_named_after_a_plain_word_of_the_value(value: str, place: str) -> None:
    """Whatever the value holds; by its number it is one of its own."""
    assert place_of_value("out", 7, value) == place


def test_a_label_is_one_short_clean_line() -> None:
    """It stands before each line of the program."""
    assert short_label("a\nb\x1b[2J") == "a b"
    assert len(short_label("x" * 999)) == 40


@pytest.mark.thorough
def test_a_hundred_values_leave_nothing(run: Script, server: LocalServer) -> None:
    """Each has its answer, in its place."""
    words = [word for number in range(100) for word in ("--each", str(number))]
    answer = run("--local", "--json", *words, "--command", "echo $((EACH * 2))").json()

    assert [each["stdout"] for each in answer["each"]] == [f"{2 * n}\n" for n in range(100)]
    assert server.sandboxes() == []
