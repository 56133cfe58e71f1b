"""The database: every state change is on disk here before it is answered.

SQLite in WAL mode, one JSON record a row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ApiError

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS {name}"
    " (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT"
)
UPSERT = (
    "INSERT INTO {name} VALUES (?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record"
)
DELETE = "DELETE FROM {name} WHERE id = ?"
SELECT = "SELECT record FROM {name} ORDER BY rowid"


class Table:
    """Records by id. Synchronous: a write takes well under a millisecond, plus the disk's own."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._upsert, self._delete, self._select = (
            statement.format(name=name) for statement in (UPSERT, DELETE, SELECT)
        )
        connection.execute(SCHEMA.format(name=name))

    def save(self, record_id: str, name: str, record: dict[str, Any]) -> None:
        """Insert or replace; raises the 507 when the disk is full."""
        self._write(self._upsert, (record_id, name, json.dumps(record)))

    def forget(self, record_id: str) -> None:
        self._write(self._delete, (record_id,))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every stored record, in the order they were created."""
        for (text,) in self._connection.execute(self._select):
            yield json.loads(text)

    def _write(self, statement: str, values: tuple[str, ...]) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise ApiError(507, f"local Daytona could not write its database: {error}") from error


class Store:
    """One table for each kind of thing that outlives the server."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        # A deleted sandbox's env_vars shall not linger in free pages.
        self._connection.execute("PRAGMA secure_delete=ON")
        self.sandboxes = Table(self._connection, "sandboxes")
        self.snapshots = Table(self._connection, "snapshots")
        self.volumes = Table(self._connection, "volumes")

    def close(self) -> None:
        self._connection.close()
