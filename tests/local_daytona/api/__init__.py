"""The API of sandboxes, snapshots, volumes and previews: scripts/local_daytona/api."""
