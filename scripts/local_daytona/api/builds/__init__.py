"""Builds of sandboxes and snapshots from a Dockerfile, and their logs."""
