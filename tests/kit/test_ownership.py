"""Whose a sandbox is, and how this user is known from one run to the next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox_kit.errors import Failure
from sandbox_kit.host_access.held import RUN_ID
from sandbox_kit.ownership import (
    ANOTHERS,
    FOREIGN,
    YOURS,
    RunIdentity,
    User,
    owner_of,
    require_yours,
    this_user,
)

ME = User("a" * 32)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "daytona-sandbox" / "user-id"


def test_the_id_is_made_once_and_is_private(state: Path) -> None:
    """Every later run is the same user."""
    first = this_user()

    assert first == this_user()
    assert first.stored
    assert state.read_text().strip() == first.id
    assert state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [None, "", "cut"])
def test_first_runs_at_once_are_one_user(state: Path, there: str | None) -> None:
    """A fan-out must be able to delete what it made, whatever lay in the place of the id."""
    for _ in range(20):
        state.parent.mkdir(parents=True, exist_ok=True)
        state.unlink(missing_ok=True)
        if there is not None:
            state.write_text(there)
        with ThreadPoolExecutor(16) as pool:
            found = {future.result().id for future in [pool.submit(this_user) for _ in range(64)]}

        assert found == {state.read_text().strip()}


@pytest.mark.parametrize("text", ["", "x", "a" * 31, "A" * 32])
def test_an_id_that_is_none_is_made_anew(state: Path, text: str) -> None:
    """A cut file must not make everybody the same user."""
    state.parent.mkdir(parents=True)
    state.write_text(text)

    assert this_user() == this_user()
    assert len(this_user().id) == 32


def test_without_a_state_every_run_is_somebody_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """It still runs, and says so where it matters."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")

    assert not this_user().stored
    assert this_user() != this_user()


def test_whose_is_told_by_both_labels() -> None:
    """A colleague's skill sets the first one too."""
    assert owner_of(ME.labels, ME) == YOURS
    assert owner_of(User("b" * 32).labels, ME) == ANOTHERS
    assert owner_of({"managed-by": "daytona-sandbox"}, ME) == ANOTHERS
    assert owner_of({"user-id": ME.id}, ME) == FOREIGN
    assert owner_of({}, ME) == FOREIGN


def test_what_is_not_yours_is_refused_with_the_way_out() -> None:
    """Which is outside the grant."""
    with pytest.raises(Failure) as caught:
        require_yours("an-id", "prod-db", {}, user=ME, local=True)

    assert caught.value.kind == "forbidden"
    assert caught.value.fix.endswith('sandboxes.py" adopt an-id --local')


@pytest.mark.parametrize(
    ("name", "chosen", "run_id", "made"),
    [
        ("OWN", None, "OWN", True),
        ("OWN", None, None, True),
        ("OWN", None, "another", False),
        ("other", None, "OWN", False),
        ("work", "work", "OWN", True),
        ("work", "work", None, False),
        ("work", "work", "another", False),
    ],
)
def test_a_run_knows_its_own_sandbox(
    name: str, chosen: str | None, run_id: str | None, made: bool
) -> None:
    """By name and run-id; a dropped label is forgiven only where the name is as unique."""
    identity = RunIdentity.new(ME, chosen)
    labels = {} if run_id is None else {"run-id": identity.run_id if run_id == "OWN" else run_id}

    assert identity.made(identity.name if name == "OWN" else name, labels) == made


def test_runs_of_one_second_are_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox's last program is found by its run; a quick machine has several in a second."""
    moments = [1764200000.0 + number / 100 for number in range(100)]
    random = iter(f"{99 - number:02d}000000" for number in range(100))
    monkeypatch.setattr("sandbox_kit.ownership.time.time", lambda: moments.pop(0))
    monkeypatch.setattr(
        "sandbox_kit.ownership.uuid.uuid4", lambda: SimpleNamespace(hex=next(random))
    )

    made = [RunIdentity.new(ME).run_id for _ in range(100)]

    assert made == sorted(made)
    assert all(RUN_ID.fullmatch(run_id) for run_id in made)
