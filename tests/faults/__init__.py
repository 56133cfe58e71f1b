"""What the scripts do when the network or the server fails: a proxy between the unmodified SDK and the real local server."""
