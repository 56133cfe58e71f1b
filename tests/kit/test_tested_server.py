"""--serve with --port: a server runs beside the program that tests it, and both end."""

from __future__ import annotations

import pytest

from tests.local_server import LocalServer

from .script_runner import Script

SERVE = "python3 -m http.server 8000"
ASK = "curl -s localhost:8000/index.html"


def test_the_program_finds_the_server_listening(run: Script, server: LocalServer) -> None:
    """Nobody sleeps and hopes: the port is waited for; afterwards nothing is left."""
    result = run(
        "--local",
        "--serve",
        f"sleep 1; echo hello >index.html; exec {SERVE}",
        "--port",
        "8000",
        "--command",
        ASK,
    )

    assert (result.code, result.stdout) == (0, "hello\n")
    assert server.sandboxes() == []


def test_a_failing_test_shows_what_the_server_printed(run: Script) -> None:
    """On stderr, so that stdout stays the program's; its exit code is the run's."""
    result = run(
        "--local",
        "--serve",
        f"echo from the server; exec {SERVE}",
        "--port",
        "8000",
        "--command",
        "echo tested; exit 3",
    )

    assert (result.code, result.stdout) == (3, "tested\n")
    assert "what the server printed:" in result.stderr
    assert "from the server" in result.stderr


def test_a_server_that_ends_is_told_and_nothing_is_tested(run: Script) -> None:
    """Its own words say why."""
    result = run(
        "--local", "--serve", "echo no such port; exit 1", "--port", "8000", "--command", "echo ran"
    )

    assert result.code == 125
    assert "no such port" in result.stdout
    assert "ran" not in result.stdout
    assert "before it listened on port 8000" in result.stderr


def test_in_a_sandbox_that_stays_the_port_is_free_again(run: Script, server: LocalServer) -> None:
    """The next run starts its own server there, and not the last one's is tested."""
    for number in (1, 2):
        result = run(
            *("--local", "--name", "web", "--serve", f"echo {number} >index.html; exec {SERVE}"),
            *("--port", "8000", "--command", ASK),
        )
        assert (result.code, result.stdout) == (0, f"{number}\n")
    for made in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{made['id']}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "8000", "--command", "x"), "--port needs --serve"),
        (("--serve", "x", "--port", "8000"), "no program that tests"),
        (("--serve", "x", "--command", "y"), "nothing says on which port"),
        (("--serve", "x", "--port", "1", "--preview", "2", "--command", "y"), "exclude each other"),
        (("--serve", "x", "--port", "2280", "--command", "y"), "Daytona's own"),
        (("--serve", "x", "--port", "1", "--command", "y", "--detach"), "--detach does not wait"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Script, server: LocalServer, words: tuple[str, ...], said: str
) -> None:
    """In one line with what to type; nothing is created."""
    result = run("--local", *words)

    assert result.code == 2
    assert said in result.stderr
    assert server.sandboxes() == []
