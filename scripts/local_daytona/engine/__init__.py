"""The engine: isolation. Nothing above it knows of bubblewrap, nothing in it of Daytona's API."""
