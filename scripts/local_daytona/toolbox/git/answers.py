"""git's output as Daytona's answers.

A repository decides what stands in that output, so whatever cannot be read is left out.
"""

from __future__ import annotations

import re
from typing import Any

WORDS = {
    ".": "Unmodified",
    "M": "Modified",
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "?": "Untracked",
}
WORDS_BEFORE_NAME = {"1": 8, "u": 10}  # of git-status(1), "Porcelain Format Version 2"
COMMIT_FORMAT = "%P%n%H%n%an%n%ae%n%aI%n%B"  # names hold no newline
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
    files: dict[str, dict[str, str]] = {}
    for record in text.split("\0"):
        if record.startswith("# "):
            found.update(head(record[2:]))
            continue
        file = file_status(record)
        if file is not None:
            files[file["name"]] = file  # the last word: one that is gone from the index and there
    return {**found, "fileStatus": list(files.values())}


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


def file_status(record: str) -> dict[str, str] | None:
    """FileStatus of one record; a conflict is a change, as Daytona has it."""
    kind, _, rest = record.partition(" ")
    if kind == "?":
        return {"name": rest, "extra": "", "staging": WORDS["?"], "worktree": WORDS["?"]}
    parts = record.split(" ", WORDS_BEFORE_NAME.get(kind, 0))
    if len(parts) != WORDS_BEFORE_NAME.get(kind, -1) + 1 or len(parts[1]) != 2:
        return None
    words = "MM" if kind == "u" else parts[1]
    staging, worktree = (WORDS.get(letter, "Modified") for letter in words)
    return {"name": parts[-1], "extra": "", "staging": staging, "worktree": worktree}


def commits(text: str) -> list[dict[str, str]]:
    """GitCommitInfos of `log -z` with COMMIT_FORMAT, in Daytona's order.

    Each stands before its parents, of which the first one and all behind it come first.
    """
    found: dict[str, dict[str, str]] = {}
    parents: dict[str, list[str]] = {}
    for record in text.split("\0"):
        above, _, rest = record.partition("\n")
        parts = rest.split("\n", len(COMMIT_FIELDS) - 1)
        if len(parts) == len(COMMIT_FIELDS):
            found[parts[0]] = dict(zip(COMMIT_FIELDS, parts, strict=True))
            parents[parts[0]] = above.split()
    ordered, waiting = [], list(found)[:1]
    while waiting:
        name = waiting.pop()
        if name in found:
            ordered.append(found.pop(name))
            waiting += reversed(parents[name])
    return ordered


def remotes(text: str) -> list[dict[str, str]]:
    r"""GitRemotes of `config -z --get-regexp ^remote\..*\.url$`; of several addresses the first."""
    found: dict[str, str] = {}
    for record in text.split("\0"):
        key, newline, url = record.partition("\n")
        name = re.fullmatch(r"remote\.(.+)\.url", key, re.DOTALL)
        if newline and name:
            found.setdefault(name[1], url)
    return [{"name": name, "url": url} for name, url in found.items()]
