"""A sandbox's life through the unmodified SDK: create, find, label, stop, start, delete, expiry."""

from __future__ import annotations

import contextlib
import datetime
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer, host_processes_of, running_server, until


@pytest.fixture
def fresh(sdk: Any) -> Iterator[Any]:
    """A sandbox made by the SDK, deleted afterwards if the test did not."""
    sandbox = sdk.create()
    yield sandbox
    delete_quietly(sandbox)


def delete_quietly(sandbox: Any) -> None:
    from daytona import DaytonaNotFoundError

    with contextlib.suppress(DaytonaNotFoundError):
        sandbox.delete()


def test_create_answers_started_with_what_was_asked_for(sdk: Any) -> None:
    """One request, no polling, and the size of the chosen snapshot."""
    from daytona import CreateSandboxFromSnapshotParams

    sandbox = sdk.create(
        CreateSandboxFromSnapshotParams(
            name="asked",
            snapshot="daytona-medium",
            labels={"k": "v"},
            env_vars={"A": "1"},
            auto_stop_interval=7,
            ttl_minutes=30,
        )
    )
    seen = (str(sandbox.state.value), sandbox.name, sandbox.snapshot)
    sandbox.delete()

    assert seen == ("started", "asked", "daytona-medium")
    assert (sandbox.cpu, sandbox.memory, sandbox.disk) == (2, 4, 8)
    assert sandbox.labels == {"k": "v", "code-toolbox-language": "python"}
    assert (sandbox.env, sandbox.auto_stop_interval) == ({"A": "1"}, 7)
    assert sandbox.auto_destroy_at is not None
    assert sandbox.network_block_all is False


def test_home_is_the_working_directory(fresh: Any) -> None:
    """Relative paths and `~` mean /home/daytona, as in the default snapshot."""
    assert (fresh.get_work_dir(), fresh.get_user_home_dir()) == ("/home/daytona", "/home/daytona")
    said = fresh.process.exec("pwd; whoami; echo ~").result
    assert said == "/home/daytona\ndaytona\n/home/daytona\n"


def test_a_sandbox_is_found_by_id_and_by_name(sdk: Any, fresh: Any) -> None:
    """Users keep whichever they were told."""
    assert sdk.get(fresh.id).id == sdk.get(fresh.name).id == fresh.id


def test_a_taken_name_is_a_conflict_and_makes_nothing(
    sdk: Any, server: LocalServer, fresh: Any
) -> None:
    """Clients rely on the 409 to know that a create did not double."""
    from daytona import CreateSandboxFromSnapshotParams, DaytonaConflictError

    before = len(server.sandboxes())
    with pytest.raises(DaytonaConflictError, match="already exists"):
        sdk.create(CreateSandboxFromSnapshotParams(name=fresh.name))

    assert len(server.sandboxes()) == before


def test_stop_and_start_keep_files_and_end_processes(fresh: Any) -> None:
    """The whole file system survives, nothing that ran does."""
    fresh.process.exec(
        "echo kept > f; echo also > /etc/mine; sleep 1000 >/dev/null 2>&1 </dev/null &"
    )

    fresh.stop()
    stopped = str(fresh.state)
    fresh.start()

    assert (stopped, str(fresh.state)) == ("SandboxState.STOPPED", "SandboxState.STARTED")
    assert fresh.process.exec("cat f /etc/mine; pgrep -fx 'sleep 1000'").result == "kept\nalso\n"


def test_a_call_into_a_stopped_sandbox_says_so(fresh: Any) -> None:
    """The real proxy's words, which clients translate."""
    from daytona import DaytonaBadRequestError

    fresh.stop()

    with pytest.raises(DaytonaBadRequestError, match="Is the Sandbox started"):
        fresh.process.exec("true")


def test_stopping_twice_is_refused_and_starting_twice_is_not(fresh: Any) -> None:
    """As the real control plane answers."""
    from daytona import DaytonaBadRequestError

    fresh.start()
    fresh.stop()

    with pytest.raises(DaytonaBadRequestError, match="not in a stoppable state"):
        fresh.stop()


def test_stopping_an_ephemeral_sandbox_deletes_it(sdk: Any, server: LocalServer) -> None:
    """That is what ephemeral means in Daytona."""
    from daytona import CreateSandboxFromSnapshotParams

    sandbox = sdk.create(CreateSandboxFromSnapshotParams(ephemeral=True))
    sandbox.stop()

    assert server.get(sandbox.id) is None


def test_delete_ends_every_process_and_frees_the_disk(server: LocalServer) -> None:
    """After the answer nothing of the sandbox runs or lies on the host."""
    created = server.create()
    server.exec(
        created["id"],
        "setsid sleep 1000 >/dev/null 2>&1 </dev/null & head -c 1000000 /dev/zero > big",
    )

    answer = server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert (answer.status, answer.json()["state"]) == (200, "destroyed")
    assert server.get(created["id"]) is None
    assert host_processes_of(server.state_dir / "sandboxes" / created["id"]) == []
    assert not (server.state_dir / "sandboxes" / created["id"]).exists()
    until(lambda: not any((server.state_dir / "trash").iterdir()))


def test_set_labels_replaces_them_all(sdk: Any, fresh: Any) -> None:
    """Daytona replaces; a client that wants to add must merge."""
    fresh.set_labels({"a": "1"})

    assert sdk.get(fresh.id).labels == {"a": "1"}


def test_intervals_and_ttl_are_set_and_read_back(sdk: Any, fresh: Any) -> None:
    """Every setter of the SDK that the skill teaches."""
    fresh.set_autostop_interval(3)
    fresh.set_auto_archive_interval(60)
    fresh.set_auto_delete_interval(90)
    fresh.set_ttl(45)
    found = sdk.get(fresh.id)

    assert (found.auto_stop_interval, found.auto_archive_interval, found.auto_delete_interval) == (
        3,
        60,
        90,
    )
    assert found.auto_destroy_at > found.created_at


def test_older_sdks_list_by_number(server: LocalServer) -> None:
    """The call of SDKs up to 0.176: items are whole sandboxes, beside what pages there are."""
    made = [server.create(name=f"numbered-{n}", env={"N": str(n)}) for n in range(3)]
    call = "/api/sandbox/paginated?name=numbered-&limit=2&sort=name&order=asc"
    first, second, third = (server.request("GET", f"{call}&page={n}").json() for n in (1, 2, 3))
    odd = [
        server.request("GET", f"/api/sandbox/paginated?{query}").status
        for query in ("page=0", "sort=cpu")
    ]
    for one in made:
        server.request("DELETE", f"/api/sandbox/{one['id']}")

    assert [one["name"] for one in first["items"]] == ["numbered-0", "numbered-1"]
    assert [one["env"] for one in second["items"]] == [{"N": "2"}]
    assert third == {"items": [], "total": 3, "page": 3, "totalPages": 2}
    assert odd == [400, 400]


def test_list_pages_filters_and_orders(sdk: Any) -> None:
    """The label filter is the server's, a page is not the whole, and no sandbox shows twice."""
    from daytona import CreateSandboxFromSnapshotParams, ListSandboxesQuery, SandboxState

    made = [
        sdk.create(CreateSandboxFromSnapshotParams(name=f"listed-{n}", labels={"batch": "x"}))
        for n in range(5)
    ]
    made[0].stop()
    query = ListSandboxesQuery(labels={"batch": "x"}, limit=2)
    names = [sandbox.name for sandbox in sdk.list(query)]
    started = [
        sandbox.name
        for sandbox in sdk.list(
            ListSandboxesQuery(labels={"batch": "x"}, states=[SandboxState.STARTED])
        )
    ]
    prefixed = [sandbox.name for sandbox in sdk.list(ListSandboxesQuery(name="LISTED-3"))]
    for sandbox in made:
        sandbox.delete()

    assert sorted(names) == [f"listed-{n}" for n in range(5)]
    assert sorted(started) == [f"listed-{n}" for n in range(1, 5)]
    assert prefixed == ["listed-3"]


def filters(large: str) -> dict[str, list[dict[str, Any]]]:
    """Queries by what they find of a small and a large sandbox; `large` is the large one's id."""
    now = datetime.datetime.now(datetime.timezone.utc)
    later, soon = (now + datetime.timedelta(minutes=number) for number in (20, 10))
    return {
        "large": [
            {"min_cpu": 2},
            {"min_memory_gib": 2},
            {"min_disk_gib": 4},
            {"is_public": True},
            {"snapshots": ["daytona-large", "x"]},
            {"auto_destroy_at_after": later},
            {"id": large[:8].upper()},
        ],
        "small": [
            {"max_cpu": 1},
            {"max_memory_gib": 1},
            {"max_disk_gib": 3},
            {"is_public": False},
        ],
        "none": [
            {"created_at_after": soon},
            {"last_activity_after": soon},
            {"auto_destroy_at_before": soon},
            {"is_recoverable": True},
            {"targets": ["us"]},
        ],
        "both": [
            {"created_at_before": soon},
            {"last_activity_before": soon},
            {"targets": ["local"]},
        ],
    }


def test_every_filter_and_every_order_of_the_sdk_holds(sdk: Any) -> None:
    """A filter that was ignored would show, and let delete, sandboxes that nobody meant."""
    from daytona import (
        CreateSandboxFromSnapshotParams,
        ListSandboxesQuery,
        SandboxListSortDirection,
        SandboxListSortField,
    )

    small = sdk.create(CreateSandboxFromSnapshotParams(labels={"batch": "f"}))
    large = sdk.create(
        CreateSandboxFromSnapshotParams(
            labels={"batch": "f"}, snapshot="daytona-large", public=True, ttl_minutes=30
        )
    )

    def listed(**query: Any) -> list[str]:
        return [found.id for found in sdk.list(ListSandboxesQuery(labels={"batch": "f"}, **query))]

    orders = [
        field
        for field in SandboxListSortField
        if field.value in ("cpu", "memoryGib", "diskGib", "createdAt")
    ]
    found = {
        answer: [listed(**query) for query in queries]
        for answer, queries in filters(large.id).items()
    }
    ordered = [listed(sort=field, order=SandboxListSortDirection.ASC) for field in orders]
    for sandbox in (small, large):
        sandbox.delete()

    assert found["large"] == [[large.id]] * 7
    assert found["small"] == [[small.id]] * 4
    assert found["none"] == [[]] * 5
    assert [sorted(ids) for ids in found["both"]] == [sorted([small.id, large.id])] * 3
    assert ordered == [[small.id, large.id]] * 4


@pytest.mark.parametrize(
    "query",
    ["createdAtAfter=soon", "minCpu=many", "isPublic=perhaps", "sort=age", "labels=[", "cursor=x"],
)
def test_a_filter_that_makes_no_sense_is_refused(
    server: LocalServer, sandbox: str, query: str
) -> None:
    """400 with the name of the field, not a list of everything."""
    reply = server.request("GET", f"/api/sandbox?{query}")

    assert reply.status == 400
    assert query.partition("=")[0] in reply.json()["message"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        (
            {"buildInfo": {"dockerfileContent": "FROM python:3.12"}},
            400,
            "cannot pull the image python:3.12",
        ),
        ({"snapshot": "nope"}, 400, "daytona-small, daytona-medium, daytona-large"),
        ({"cpu": 2}, 400, "Cannot specify Sandbox resources"),
        ({"secrets": [{"A": "b"}]}, 501, "no secret vault"),
        ({"outboundProxyUrl": "http://proxy:3128"}, 501, "HTTPS_PROXY"),
        (
            {"volumes": [{"volumeId": "v", "mountPath": "/mnt/v"}]},
            404,
            "Volume with ID or name v not found",
        ),
        ({"name": "<b>x</b>"}, 400, "must not hold HTML"),
        ({"name": "https://x.example"}, 400, "must not hold HTML"),
        ({"name": "a\x01b"}, 400, "control characters"),
        ({"name": "x" * 256}, 400, "255 characters"),
        ({"user": "bob"}, 501, "leave os_user out"),
        ({"otelEndpointOverride": "http://x:4318"}, 501, "sends no telemetry"),
        ({"labels": {"code-toolbox-language": "cobol"}}, 400, "must be one of"),
        ({"autoStopInterval": "soon"}, 400, "whole number"),
        ({"env": [1]}, 400, "env must be an object"),
        ({"env": {"A=B": "c"}}, 400, "Invalid environment variable"),
        ({"env": {"A": "x" * 70_000}}, 400, "upload a file instead"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_local_daytona_does_not_have_is_refused_not_ignored(
    server: LocalServer, fields: dict[str, Any], status: int, words: str
) -> None:
    """It never pretends: a missing image is an error with the way out, and nothing is made."""
    before = len(server.sandboxes())
    reply = server.request("POST", "/api/sandbox", body=fields)

    assert reply.status == status
    assert words in reply.json()["message"]
    assert len(server.sandboxes()) == before


@pytest.mark.parametrize(
    "name", ["a b", "-a", "_a", "NAME-\u00e9", "a/b", "a:b@c", "../x", "paginated2"]
)
def test_a_name_is_any_text(server: LocalServer, name: str) -> None:
    """But HTML, addresses and control characters; and it finds the sandbox."""
    created = server.create(name=name)
    found = server.request("GET", f"/api/sandbox/{urllib.parse.quote(name, safe='')}")

    assert (created["name"], found.json()["id"]) == (name, created["id"])
    server.request("DELETE", f"/api/sandbox/{created['id']}")


def test_values_that_are_no_text_become_some(server: LocalServer) -> None:
    """Variables and labels are any object there; a program sees text in any case."""
    created = server.create(env={"A": 1, "B-C": True}, labels={"n": 5})

    assert created["labels"] == {"n": "5"}
    assert server.exec(created["id"], "env | grep -E '^(A|B-C)=' | sort")["result"] == (
        "A=1\nB-C=true\n"
    )
    server.request("DELETE", f"/api/sandbox/{created['id']}")


def test_intervals_mean_what_they_mean_there(server: LocalServer) -> None:
    """No archive interval is beyond 30 days, 0 least of all; a negative one never deletes."""
    created = server.create(autoArchiveInterval=0, autoDeleteInterval=-5)
    path = f"/api/sandbox/{created['id']}/autoarchive"
    later = [
        server.request("POST", f"{path}/{n}").json()["autoArchiveInterval"] for n in (0, 50_000, 60)
    ]

    assert (created["autoArchiveInterval"], created["autoDeleteInterval"]) == (43_200, -5)
    assert later == [43_200, 43_200, 60]
    server.request("DELETE", f"/api/sandbox/{created['id']}")


@pytest.mark.parametrize(
    "query",
    ["states=destroyed", "states=nosuch", "order=up", "minCpu=0", "maxDiskGiB=0", "cursor=eA=="],
)
def test_a_list_that_makes_no_sense_is_a_400(server: LocalServer, query: str) -> None:
    """An empty list would say that there are no sandboxes."""
    assert server.request("GET", f"/api/sandbox?{query}").status == 400


def test_network_rules_exclude_each_other(server: LocalServer) -> None:
    """As documented today: one kind at a time, and a new list takes the place of the old one."""
    cidrs, domains = {"networkAllowList": "10.0.0.0/8"}, {"domainAllowList": "pypi.org"}
    for both in ({**cidrs, **domains}, {**cidrs, "networkBlockAll": True}):
        assert server.request("POST", "/api/sandbox", body=both).status == 400
    created = server.create(**cidrs)
    path = f"/api/sandbox/{created['id']}/network-settings"
    changed = server.request("POST", path, body=domains).json()

    assert (changed.get("networkAllowList"), changed["domainAllowList"]) == (None, "pypi.org")
    assert server.request("POST", path, body={}).status == 400
    server.request("DELETE", f"/api/sandbox/{created['id']}")


def test_an_empty_target_and_unknown_fields_are_ignored(server: LocalServer) -> None:
    """The SDK sends its region along, and newer SDKs may send more."""
    created = server.create(target="us", somethingNew={"x": 1})
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert created["state"] == "started"


def test_a_sandbox_whose_first_process_is_gone_is_stopped_not_lost(server: LocalServer) -> None:
    """Should the sandbox end by itself, its record says why and its files can be started again."""
    created = server.create()
    for pid in host_processes_of(server.state_dir / "sandboxes" / created["id"]):
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(child, 9)
    found = until(lambda: stopped(server.get(created["id"])))
    restarted = server.request("POST", f"/api/sandbox/{created['id']}/start").json()
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert found["errorReason"] == "the sandbox ended by itself"
    assert restarted["state"] == "started"


def stopped(sandbox: dict[str, Any] | None) -> dict[str, Any] | None:
    return sandbox if sandbox is not None and sandbox["state"] == "stopped" else None


@pytest.fixture(scope="module")
def quick() -> Iterator[LocalServer]:
    """A server whose minutes last a tenth of a second."""
    from tests.local_server import new_state_dir

    with running_server(new_state_dir(), minute=0.1) as server:
        yield server


class TestTimers:
    """What time alone does to a sandbox."""

    def test_the_ttl_deletes_a_busy_sandbox(self, quick: LocalServer) -> None:
        """The ttl is the safety net for a script that was killed: it counts in every state."""
        created = quick.create(ttlMinutes=5, autoStopInterval=0)

        until(lambda: quick.get(created["id"]) is None)

    def test_a_new_ttl_counts_from_now(self, quick: LocalServer) -> None:
        """set_ttl(0) switches it off."""
        created = quick.create(ttlMinutes=30, autoStopInterval=0)
        quick.request("POST", f"/api/sandbox/{created['id']}/ttl/0")
        other = quick.create(ttlMinutes=40, autoStopInterval=0)
        until(lambda: quick.get(other["id"]) is None)

        assert quick.get(created["id"]) is not None
        quick.request("DELETE", f"/api/sandbox/{created['id']}")

    def test_an_idle_sandbox_stops_and_an_ephemeral_one_goes(self, quick: LocalServer) -> None:
        """Auto-stop keeps files, unless the sandbox is ephemeral."""
        kept = quick.create(autoStopInterval=3)
        gone = quick.create(autoStopInterval=3, autoDeleteInterval=0)

        until(lambda: stopped(quick.get(kept["id"])))
        until(lambda: quick.get(gone["id"]) is None)
        quick.request("DELETE", f"/api/sandbox/{kept['id']}")

    def test_a_request_under_way_keeps_a_sandbox_from_stopping(self, quick: LocalServer) -> None:
        """A long exec is activity for as long as it runs."""
        created = quick.create(autoStopInterval=2)

        assert quick.exec(created["id"], "sleep 1; echo survived")["result"] == "survived\n"
        quick.request("DELETE", f"/api/sandbox/{created['id']}")

    def test_background_work_does_not_count_as_activity(self, quick: LocalServer) -> None:
        """As in the cloud: a process that nobody talks to is stopped with its sandbox."""
        created = quick.create(autoStopInterval=3)
        quick.exec(
            created["id"],
            "while true; do date > clock; sleep 0.05; done >/dev/null 2>&1 </dev/null &",
        )

        until(lambda: stopped(quick.get(created["id"])))
        quick.request("DELETE", f"/api/sandbox/{created['id']}")

    def test_a_stopped_sandbox_is_deleted_after_its_interval(self, quick: LocalServer) -> None:
        """Auto-delete counts from the stop."""
        created = quick.create(autoDeleteInterval=3)
        quick.request("POST", f"/api/sandbox/{created['id']}/stop")

        until(lambda: quick.get(created["id"]) is None)
