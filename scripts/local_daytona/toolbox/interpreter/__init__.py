"""Interpreter contexts: a Python that remembers, over a WebSocket."""
