"""The control plane: which sandboxes exist, what state they are in, and who is told when that changes."""
