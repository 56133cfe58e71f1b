"""The server that the pages' blocks run against."""

from __future__ import annotations

from tests.local.conftest import server

__all__ = ["server"]
