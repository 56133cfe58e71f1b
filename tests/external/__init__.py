"""What needs more than Python: a fresh machine's users, validators from other projects. Run by .ci/run."""
