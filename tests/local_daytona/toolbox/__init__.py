"""The API inside one sandbox: scripts/local_daytona/toolbox."""
