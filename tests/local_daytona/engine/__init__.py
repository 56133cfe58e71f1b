"""What the sandbox is made of: scripts/local_daytona/engine."""
