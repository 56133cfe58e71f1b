"""The control plane: which sandboxes exist, their states, and who is told when one changes."""
