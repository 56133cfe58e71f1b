"""The list of meant differences from Daytona: each row has a reason and a test that shows it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "scripts" / "local_daytona" / "DIFFERENCES.md"
REASONS = {"safe", "kind", "host", "SDK", "size"}
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| what", "| ---"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_difference_has_a_reason_and_a_test(row: list[str]) -> None:
    """A list that nobody checks is a wish."""
    *_, why, name = row
    file, _, function = name.strip("`").partition("::")
    source = ROOT / "tests" / "local_daytona" / file

    assert len(row) == 5
    assert why in REASONS
    assert function in {
        node.name
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
