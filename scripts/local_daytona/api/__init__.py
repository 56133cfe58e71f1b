"""Daytona's control plane, prefix /api: sandboxes, snapshots, builds, volumes, previews, events."""
