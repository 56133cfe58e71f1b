"""Snapshots: what sandboxes are made from."""
