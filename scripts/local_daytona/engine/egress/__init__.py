"""What a sandbox may reach outside: an HTTP(S) proxy that listens inside its network namespace and is accepted by the server.

The sandbox has no interface and no route of its own, so what `policy` refuses is not reachable in any other way.
"""
