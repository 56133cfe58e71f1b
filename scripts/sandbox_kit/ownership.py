"""Whose a sandbox is: this skill's by one label, this user's by another.

Organizations are shared, and colleagues carry the same skill.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import skill_env

from .errors import Failure
from .state_files import one_at_a_time, write_private

MANAGED_BY = "managed-by"
MANAGER = "daytona-sandbox"
RUN_ID = "run-id"
USER_ID = "user-id"
YOURS, ANOTHERS, FOREIGN = "yours", "another user's", "not this skill's"


@dataclass(frozen=True)
class User:
    """This user of this machine, by a random id that says nothing else.

    Not `stored` when the next run will be somebody else.
    """

    id: str
    stored: bool = True

    @property
    def labels(self) -> dict[str, str]:
        return {MANAGED_BY: MANAGER, USER_ID: self.id}


@dataclass(frozen=True)
class RunIdentity:
    """The names of one run, chosen before anything is created."""

    run_id: str
    name: str
    user: User

    @classmethod
    def new(cls, user: User, name: str | None = None) -> RunIdentity:
        run_id = moment_of_now() + uuid.uuid4().hex[:5]
        return cls(run_id=run_id, name=name or f"run-{run_id}", user=user)

    @classmethod
    def many(cls, user: User, number: int) -> list[RunIdentity]:
        """Of runs that begin together: the last three digits count, so that two name them all."""
        common = moment_of_now() + uuid.uuid4().hex[:2]
        ids = [f"{common}{place:03x}" for place in range(1, number + 1)]
        return [cls(run_id=run_id, name=f"run-{run_id}", user=user) for run_id in ids]

    @property
    def labels(self) -> dict[str, str]:
        return {**self.user.labels, RUN_ID: self.run_id}

    def made(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a sandbox is this run's.

        A name of our own is as unique as the run-id, should the server have dropped the labels.
        """
        found = labels.get(RUN_ID)
        return name == self.name and (
            found == self.run_id or (found is None and self.run_id in name)
        )


def moment_of_now() -> str:
    """The beginning of a run's id, to 1/4096 s.

    Runs are in their order also within a second: the last program of a sandbox is found by it.
    """
    now = time.time()
    moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{moment}-{int(now % 1 * 4096):03x}"


def this_user() -> User:
    """Read from the client's state, where the first run makes it.

    Where the state cannot be written, every run is a user of its own.
    """
    path = skill_env.client_state_dir() / "user-id"
    try:
        return User(read_id(path) or make_id(path))
    except OSError:
        return User(uuid.uuid4().hex, stored=False)


def read_id(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        if re.fullmatch(r"[0-9a-f]{32}", text):
            return text
    return None


def make_id(path: Path) -> str:
    """Once, by whichever of several first runs comes first; also in place of what is no id.

    Raises OSError.
    """
    with one_at_a_time(path):
        found = read_id(path)
        if found is None:
            found = uuid.uuid4().hex
            write_private(path, f"{found}\n".encode())
        return found


def owner_of(labels: Mapping[str, str], user: User) -> str:
    """One of YOURS, ANOTHERS, FOREIGN."""
    if labels.get(MANAGED_BY) != MANAGER:
        return FOREIGN
    return YOURS if labels.get(USER_ID) == user.id else ANOTHERS


def require_yours(
    sandbox_id: str, name: str, labels: Mapping[str, str], *, user: User, local: bool
) -> None:
    """Raises Failure forbidden for a sandbox that is not this user's; its fix asks the person."""
    owner = owner_of(labels, user)
    if owner != YOURS:
        words = ("adopt", sandbox_id, "--local") if local else ("adopt", sandbox_id)
        raise Failure(
            "forbidden",
            f"{name} ({sandbox_id}) is {owner}, so it is left alone",
            fix=f"if it is yours to use: {skill_env.command('sandboxes.py', *words)}",
        )
