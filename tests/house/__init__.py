"""The rules of this repository itself: its layers, its locks, its zip, its tests."""
