"""What needs more than Python: users of a fresh machine, other projects' validators; by .ci/run."""
