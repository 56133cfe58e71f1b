"""What the engine refuses, as the control plane's answers."""

from __future__ import annotations

import asyncio
import errno

from ..errors import ApiError, CopyStopped, EngineUnavailable


def as_api_error(error: BaseException) -> BaseException:
    """Engine failures as answers; anything else stays what it is."""
    if isinstance(error, EngineUnavailable):
        return ApiError(503, f"local Daytona cannot start a sandbox: {error}. fix: {error.fix}")
    if isinstance(error, (CopyStopped, asyncio.CancelledError)):
        return ApiError(503, "local Daytona is ending")
    if isinstance(error, OSError) and error.errno == errno.ENOTEMPTY:  # where a volume shall be
        return ApiError(400, f"the volume cannot be mounted: {error.strerror}")
    if isinstance(error, OSError):
        reason = error.strerror or error
        return ApiError(507, f"local Daytona could not store the sandbox: {reason}")
    return error
