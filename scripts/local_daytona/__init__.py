"""Local Daytona: Daytona's own HTTP API on loopback, over Linux isolation."""
