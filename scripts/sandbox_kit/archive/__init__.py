"""Files in and out of a sandbox: one tar each way, what travels and what stays, what comes back."""
