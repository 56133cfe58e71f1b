"""Previews: a port inside a sandbox at an address of this machine."""
