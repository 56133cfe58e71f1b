"""What a sandbox may reach of the network: scripts/local_daytona/egress."""
