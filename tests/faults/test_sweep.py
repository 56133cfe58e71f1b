"""A seeded sample of the sweep: each scenario with faults and signals all along a run."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.local_server import LocalServer

from .sweep import SCENARIOS, Case, Sweep, all_cases, ready, shorten_pauses

SAMPLE, SEED = 60, 20261123


@pytest.fixture(scope="module")
def sweep(server: LocalServer) -> Iterator[Sweep]:
    with ready(server) as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch.setattr)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_fault_a_scenario_is_right(sweep: Sweep, scenario: str) -> None:
    """What the faults are measured against."""
    assert sweep.run(Case(scenario, None, 1)) == []


@pytest.mark.parametrize("case", random.Random(SEED).sample(all_cases(), SAMPLE), ids=str)
def test_whatever_fails_nothing_is_left_touched_repeated_or_told(sweep: Sweep, case: Case) -> None:
    """Right codes, a fix, no secret, no hang, no program twice.

    No sandbox without an end, and none of others' is touched.
    """
    assert sweep.run(case) == []


def test_there_are_enough_cases() -> None:
    """The whole sweep is run by hand: python3 -m tests.faults.sweep."""
    assert len(all_cases()) >= 1000
