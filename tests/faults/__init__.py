"""The scripts when network or server fail: a proxy between the SDK and the real local server."""
