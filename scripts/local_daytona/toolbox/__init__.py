"""The toolbox: what a client does in one sandbox; HTTP on one side, its agent on the other."""
