"""What a sandbox may reach outside: an HTTP(S) proxy that listens inside, and is served from here.

It listens in the sandbox's network namespace, which has no interface and no route of its own. So
what `policy` refuses is not reachable in any other way.
"""
