"""The only package that imports the SDK: version gate, cheap import, its calls and errors as ours.

Asynchronous clients are used throughout: the synchronous SDK sends a toolbox POST up to four times
when a connection closes without an answer, so that a command can run four times
(local_daytona/PROTOCOL.md).
"""

from .client import Client
from .sandbox import Sandbox
from .types import CreateSpec, SandboxInfo, SessionCommand, SnapshotInfo, VolumeInfo

__all__ = [
    "Client",
    "CreateSpec",
    "Sandbox",
    "SandboxInfo",
    "SessionCommand",
    "SnapshotInfo",
    "VolumeInfo",
]
