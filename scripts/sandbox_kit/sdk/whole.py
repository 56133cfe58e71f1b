"""The whole SDK, imported when a call needs logic of its own: charts, and downloads in parts."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from ..settings import Settings

if TYPE_CHECKING:
    from daytona import AsyncDaytona, AsyncSandbox


class Whole:
    """One AsyncDaytona, made at its first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._daytona: AsyncDaytona | None = None

    async def sandbox(self, sandbox_id: str) -> AsyncSandbox:
        """The SDK's own object of a sandbox; one request."""
        self._daytona = self._daytona or self._made()
        return await self._daytona.get(sandbox_id)

    def _made(self) -> AsyncDaytona:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from daytona import AsyncDaytona, DaytonaConfig

            leave_sigint_alone()
            settings = self._settings
            config = DaytonaConfig(
                api_key=settings.api_key, jwt_token=settings.jwt_token, organization_id=settings.organization_id,
                api_url=settings.endpoint, target=settings.target, otel_enabled=False,
            )  # fmt: skip
            return AsyncDaytona(config)

    async def close(self) -> None:
        if self._daytona is not None:
            with contextlib.suppress(Exception):
                await self._daytona.close()  # type: ignore[no-untyped-call]  # the SDK left it unannotated


def leave_sigint_alone() -> None:
    """engineio, below the SDK, would replace our SIGINT handler at its first connect; this is its own "already done" flag."""
    import engineio.async_client  # type: ignore[import-untyped]  # ships no types

    engineio.async_client.async_signal_handler_set = True
