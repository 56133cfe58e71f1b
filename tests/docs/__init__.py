"""Every command, snippet, flag, link and limit that the prose states, checked against the code."""
