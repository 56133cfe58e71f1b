"""The engine: isolation. Nothing above it knows what bubblewrap is; nothing in it knows what HTTP is."""
