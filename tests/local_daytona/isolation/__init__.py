"""What the sandbox is made of: scripts/local_daytona/isolation."""
