"""The database: every state change is on disk here before it is answered. SQLite in WAL mode, one JSON record a row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS sandboxes (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
"""


class Store:
    """Sandbox records by id. Calls are synchronous: a write takes well under a millisecond, plus the disk's own."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA secure_delete=ON")  # a deleted sandbox's env_vars shall not linger in free pages
        self._connection.executescript(SCHEMA)

    def save(self, sandbox_id: str, name: str, record: dict[str, Any]) -> None:
        self._connection.execute(
            "INSERT INTO sandboxes VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
            (sandbox_id, name, json.dumps(record)),
        )

    def forget(self, sandbox_id: str) -> None:
        self._connection.execute("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,))

    def sandboxes(self) -> Iterator[dict[str, Any]]:
        """Every stored record, in the order they were created."""
        for (text,) in self._connection.execute("SELECT record FROM sandboxes ORDER BY rowid"):
            yield json.loads(text)

    def close(self) -> None:
        self._connection.close()
