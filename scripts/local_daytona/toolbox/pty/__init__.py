"""Terminals: a shell on a PTY, over a WebSocket."""
