"""The toolbox: what a client does inside one sandbox, as HTTP on one side and engine calls on the other."""
