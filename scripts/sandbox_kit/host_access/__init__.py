"""The one gate for what a flag may touch on this machine: files to read, results to write, variables to pass on."""

from .gate import HostAccess

__all__ = ["HostAccess"]
