"""The one gate for what a flag may touch on this machine.

That is files to read, results to write and variables to pass on.
"""

from .gate import HostAccess

__all__ = ["HostAccess"]
