"""git's output as Daytona's answers.

A repository decides what stands in that output, so whatever cannot be read is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

WORDS = {
    ".": "Unmodified",
    "M": "Modified",
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
    "U": "Updated but unmerged",
    "?": "Untracked",
}
WORDS_BEFORE_NAME = {"1": 8, "2": 9, "u": 10}  # of git-status(1), "Porcelain Format Version 2"
COMMIT_FORMAT = "%H%n%an%n%ae%n%aI%n%B"  # names hold no newline
COMMIT_FIELDS = ("hash", "author", "email", "timestamp", "message")
DETACHED = "HEAD"  # what Daytona calls a branch that is none


def status(text: str) -> dict[str, Any]:
    """GitStatus of `status --porcelain=v2 --branch -z`."""
    found: dict[str, Any] = {
        "currentBranch": "",
        "fileStatus": [],
        "ahead": 0,
        "behind": 0,
        "branchPublished": False,
        "detached": False,
    }
    records = iter(text.split("\0"))
    for record in records:
        if record.startswith("# "):
            found.update(head(record[2:]))
            continue
        file = file_status(record, records)
        if file is not None:
            found["fileStatus"].append(file)
    return found


def head(line: str) -> dict[str, Any]:
    """What one header line says."""
    name, _, value = line.partition(" ")
    if name == "branch.head":
        detached = value == "(detached)"
        return {"currentBranch": DETACHED if detached else value, "detached": detached}
    if name == "branch.upstream":
        return {"upstream": value, "branchPublished": True}
    counts = re.fullmatch(r"\+(\d{1,9}) -(\d{1,9})", value)
    if name != "branch.ab" or counts is None:
        return {}
    return {"ahead": int(counts[1]), "behind": int(counts[2])}


def file_status(record: str, more: Iterator[str]) -> dict[str, str] | None:
    """FileStatus of one record; a rename's old name is the record after it."""
    kind, _, rest = record.partition(" ")
    if kind == "?":
        return {"name": rest, "extra": "", "staging": WORDS["?"], "worktree": WORDS["?"]}
    extra = next(more, "") if kind == "2" else ""
    parts = record.split(" ", WORDS_BEFORE_NAME.get(kind, 0))
    if len(parts) != WORDS_BEFORE_NAME.get(kind, -1) + 1 or len(parts[1]) != 2:
        return None
    staging, worktree = (WORDS.get(letter, "Modified") for letter in parts[1])
    return {"name": parts[-1], "extra": extra, "staging": staging, "worktree": worktree}


def commits(text: str) -> list[dict[str, str]]:
    """GitCommitInfos of `log -z` with COMMIT_FORMAT."""
    found = []
    for record in text.split("\0"):
        parts = record.split("\n", len(COMMIT_FIELDS) - 1)
        if len(parts) == len(COMMIT_FIELDS):
            found.append(dict(zip(COMMIT_FIELDS, parts, strict=True)))
    return found


def remotes(text: str) -> list[dict[str, str]]:
    r"""GitRemotes of `config -z --get-regexp ^remote\..*\.url$`; of several addresses the first."""
    found: dict[str, str] = {}
    for record in text.split("\0"):
        key, newline, url = record.partition("\n")
        name = re.fullmatch(r"remote\.(.+)\.url", key, re.DOTALL)
        if newline and name:
            found.setdefault(name[1], url)
    return [{"name": name, "url": url} for name, url in found.items()]
