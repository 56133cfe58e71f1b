"""The real SDK and the real scripts against a real local Daytona."""
