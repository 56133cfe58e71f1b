"""Volumes: folders that sandboxes share and that outlive them."""
