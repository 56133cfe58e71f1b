"""Volumes and snapshots that these scripts made: they have no labels, so it is noted here.

An account's other ones may be a colleague's, and are neither used nor deleted unasked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import skill_env

from .settings import Settings
from .state_files import one_at_a_time, write_private

Kind = Literal["volumes", "snapshots"]


@dataclass(frozen=True)
class MadeRecord:
    """Of one kind at one endpoint, by id."""

    kind: Kind
    endpoint: str

    @classmethod
    def of(cls, kind: Kind, settings: Settings) -> MadeRecord:
        """Local Daytona's address is another one at each start."""
        return cls(kind, "local" if settings.engine == "local" else settings.endpoint)

    def names(self) -> dict[str, str]:
        """Id -> name; empty where nothing can be read."""
        found = read_all().get(self.kind, {}).get(self.endpoint, {})
        return {str(key): str(name) for key, name in found.items()}

    def add(self, made_id: str, name: str) -> None:
        """Raises OSError."""
        with self._changed() as names:
            names[made_id] = name

    def forget(self, made_id: str) -> None:
        """Raises OSError."""
        with self._changed() as names:
            names.pop(made_id, None)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, str]]:
        """The names, to be changed; written where nothing was raised."""
        with one_at_a_time(path()):
            whole = read_all()
            yield whole.setdefault(self.kind, {}).setdefault(self.endpoint, {})
            write_private(path(), json.dumps(whole).encode())


def path() -> Path:
    return skill_env.client_state_dir() / "made.json"


def read_all() -> dict[str, dict[str, dict[str, str]]]:
    try:
        found = json.loads(path().read_bytes())
        parts = [kind for kind in found.values() if all(isinstance(v, dict) for v in kind.values())]
        return found if len(parts) == len(found) else {}
    except (OSError, ValueError, AttributeError):
        return {}
