"""The run scenarios against the real Daytona, with the user's key and at the user's cost; only when asked for."""
