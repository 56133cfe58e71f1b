"""The toolbox: what a client does in one sandbox; HTTP on one side, engine calls on the other."""
