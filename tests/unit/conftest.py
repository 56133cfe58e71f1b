"""Unit tests import the packages as the scripts do: from the folder `scripts`."""
