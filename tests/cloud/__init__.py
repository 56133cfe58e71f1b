"""Runs against the real Daytona with the user's key and at the user's cost, when asked for."""
