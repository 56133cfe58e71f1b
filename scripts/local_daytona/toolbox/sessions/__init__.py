"""Sessions: a long-lived shell, its commands and their logs."""
