"""The client: everything behind healthcheck.py, run_in_sandbox.py and sandboxes.py.

Nothing lower imports anything higher.
"""
