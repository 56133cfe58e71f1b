"""Git in a sandbox, as the daemon's routes have it."""
