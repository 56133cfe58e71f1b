"""Linux isolation of one sandbox: bubblewrap, its limits, its files, the agent inside.

Nothing above it knows of bubblewrap, nothing in it of Daytona's API.
"""
