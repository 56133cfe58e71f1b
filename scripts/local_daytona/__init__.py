"""Local Daytona: Daytona's own HTTP API on loopback, over Linux isolation; the engine for one machine and for tests."""
