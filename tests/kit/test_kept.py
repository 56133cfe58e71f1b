"""What an account keeps: volumes, snapshots of a sandbox, a longer life, and files out of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_kit.inventory import aligned
from sandbox_kit.made_record import MadeRecord
from tests.local_server import LocalServer

from .script_runner import Script


@pytest.fixture
def work(run: Script, server: LocalServer) -> Iterator[str]:
    """The name of a kept sandbox of ours; it, and all that was made, is deleted afterwards."""
    run("--local", "--name", "work", "--command", "mkdir code; echo 'print(7)' >code/a.py")
    yield "work"
    for found in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{found['id']}")
    for kind in ("volumes", "snapshots"):
        found = server.request("GET", f"/api/{kind}").json()
        for one in found if isinstance(found, list) else found["items"]:
            server.request("DELETE", f"/api/{kind}/{one['id']}")


def test_a_snapshot_brings_what_was_set_up_once(
    run: Script, sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """With a network rule from the first moment on, which a setup could not have."""
    made = sandboxes_script("snapshot", work, "with-code", "--local")
    used = run(
        *("--local", "--snapshot", "with-code", "--no-network", "--command", "python3 code/a.py")
    )
    listed = sandboxes_script("snapshots", "--local")
    gone = sandboxes_script("snapshots", "--local", "--json", "--delete", "with-code")

    assert (made.code, used.code, used.stdout) == (0, 0, "7\n")
    assert "made snapshot with-code" in made.stderr
    assert listed.stdout.endswith("\twith-code\tactive\n")
    assert (gone.code, gone.json()["snapshots"]) == (0, [])
    assert server.request("GET", "/api/snapshots/with-code").status == 404


def test_a_snapshot_that_others_made_is_neither_replaced_nor_deleted(
    sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """By our own record: Daytona's own are in the same list."""
    replaced = sandboxes_script("snapshot", work, "daytona-medium", "--local")
    deleted = sandboxes_script("snapshots", "--local", "--delete", "daytona-medium")

    assert (replaced.code, deleted.code) == (125, 125)
    assert "daytona-medium is there already" in replaced.stderr
    assert "not made by these scripts" in deleted.stderr
    assert server.request("GET", "/api/snapshots/daytona-medium").status == 200


def test_a_bad_name_for_a_snapshot_is_refused(sandboxes_script: Script) -> None:
    """Before anybody is asked."""
    result = sandboxes_script("snapshot", "x", "a b", "--local")

    assert result.code == 2
    assert "no name for a snapshot" in result.stderr


def test_a_volume_is_made_told_and_kept(
    run: Script, sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """What one run writes the next one finds; it stays until somebody deletes it."""
    volume = ("--volume", "cache:/home/daytona/cache")
    first = run("--local", *volume, "--command", "echo kept >cache/x")
    second = run("--local", *volume, "--command", "cat cache/x")
    listed = sandboxes_script("volumes", "--local")
    gone = sandboxes_script("volumes", "--local", "--delete", "cache")

    assert (first.code, second.code, second.stdout) == (0, 0, "kept\n")
    assert "made volume cache" in first.stderr
    assert "volumes --delete cache --local" in first.stderr
    assert "made volume" not in second.stderr
    assert "\tcache\tready" in listed.stdout
    assert gone.code == 0
    assert server.request("GET", "/api/volumes").json() == []


def test_a_volume_that_others_made_is_used_only_after_it_was_adopted(
    run: Script, sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """It may be a colleague's; that it is one's own is typed, and the client asks."""
    server.request("POST", "/api/volumes", body={"name": "theirs"})
    words = ("--local", "--volume", "theirs:/home/daytona/x", "--command", "ls x")
    before = run(*words)
    adopted = sandboxes_script("adopt", "theirs", "--volume", "--local")
    after = run(*words)

    assert before.code == 125
    assert before.fix.endswith("adopt theirs --volume --local")
    assert (adopted.code, after.code) == (0, 0)


def test_volumes_serve_many_runs(run: Script, server: LocalServer, work: str) -> None:
    """It is made once, and each has it."""
    result = run(
        *("--local", "--volume", "shared:/home/daytona/s", "--each", "1", "--each", "2"),
        *("--command", "echo $EACH >s/$EACH"),
    )
    seen = run("--local", "--volume", "shared:/home/daytona/s", "--command", "cat s/*")

    assert (result.code, sorted(seen.stdout.split())) == (0, ["1", "2"])
    assert result.stderr.count("made volume") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--volume", "x", "--command", "y"), "--volume takes NAME:/PATH"),
        (("--volume", "x:rel", "--command", "y"), "--volume takes NAME:/PATH"),
        (("--volume", "x:/", "--command", "y"), "--volume takes NAME:/PATH"),
        (("--volume", "a b:/x", "--command", "y"), "--volume takes NAME:/PATH"),
        (("--volume", "x:/y", "--sandbox", "z", "--command", "y"), "--volume cannot change"),
    ],
)
def test_a_volume_that_makes_no_sense_is_refused(
    run: Script, server: LocalServer, words: tuple[str, ...], said: str
) -> None:
    """Nothing is made."""
    result = run("--local", *words)

    assert result.code == 2
    assert said in result.stderr
    assert server.request("GET", "/api/volumes").json() == []


def test_a_life_is_made_longer_and_never_shorter(
    sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """Whoever wants it to end says delete or stop."""
    longer = sandboxes_script("extend", work, "--ttl", "600", "--auto-stop", "0", "--local")
    shorter = sandboxes_script("extend", work, "--ttl", "5", "--local")
    found = server.get(work)

    assert longer.code == 0
    assert "not stopped when idle" in longer.stderr
    assert (shorter.code, "already" in shorter.stderr) == (2, True)
    assert found is not None
    assert found["autoStopInterval"] == 0


def test_what_runs_in_a_sandbox_is_shown(run: Script, sandboxes_script: Script, work: str) -> None:
    """Its size, its end and who is its owner too."""
    run("--local", "--sandbox", work, "--detach", "--command", "sleep 60")
    info = sandboxes_script("info", work, "--local", "--json").json()
    listed = sandboxes_script("list", "--local").stdout

    assert [name[:4] for name in info["sandboxes"][0]["runs"]] == ["job-"]
    assert "\tjob-" in listed
    assert info["sandboxes"][0]["size"] == {"cpu": 1, "memory": 1, "disk": 3}
    assert "\tyours\t" in listed
    assert "\tno auto-stop\t1 vCPU, 1 GiB, 3 GiB disk" in listed


def test_others_are_shown_when_asked_for_and_left_alone(
    sandboxes_script: Script, server: LocalServer, work: str
) -> None:
    """By `list --all` alone, which does nothing else."""
    server.create(name="somebody-elses")
    plain, everything = (
        sandboxes_script("list", "--local", *more).stdout for more in ((), ("--all",))
    )

    assert "somebody-elses" not in plain
    assert "somebody-elses" in everything


def test_a_terminals_columns_stand_below_each_other() -> None:
    """Off a terminal they are separated by tabs, for programs."""
    assert aligned(["a\tbb", "ccc\td"]) == ["a    bb", "ccc  d"]


def test_files_of_a_sandbox_are_fetched_code_too(
    sandboxes_script: Script, scripts_environment: Path, work: str
) -> None:
    """Somebody typed it; what is there already is not overwritten."""
    first = sandboxes_script("fetch", work, "code:got", "--local")
    second = sandboxes_script("fetch", work, "code:got", "--local")
    forced = sandboxes_script("fetch", work, "code/a.py:got/a.py", "--force", "--local", "--json")

    assert (first.code, second.code, forced.code) == (0, 125, 0)
    assert (scripts_environment / "got" / "a.py").read_text() == "print(7)\n"
    assert forced.json()["files"][0]["path"].endswith("got/a.py")


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((), "nothing says what to bring"),
        (("nothing-there",), "the sandbox has no nothing-there"),
    ],
)
def test_what_cannot_be_fetched_is_told(
    sandboxes_script: Script, work: str, pairs: tuple[str, ...], said: str
) -> None:
    """And nothing of it stays in the state."""
    result = sandboxes_script("fetch", work, *pairs, "--local")

    assert result.code in (2, 125)
    assert said in result.stderr


def test_the_record_forgets_what_is_gone_and_survives_nonsense(
    scripts_environment: Path, tmp_path: Path
) -> None:
    """It is a file that anything may have written."""
    record = MadeRecord("volumes", "local")
    record.add("1", "a")
    record.add("2", "b")
    record.forget("1")
    path = tmp_path / "state" / "daytona-sandbox" / "made.json"

    assert record.names() == {"2": "b"}
    assert MadeRecord("volumes", "https://elsewhere").names() == {}
    for text in ("", "[]", '{"volumes": []}', '{"volumes": {"local": 3}}', json.dumps({"x": 1})):
        path.write_text(text)
        assert record.names() == {}
    record.add("3", "c")
    assert record.names() == {"3": "c"}
    assert time.time() - path.stat().st_mtime < 60
