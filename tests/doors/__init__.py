"""Doors, by the clients that use them, unchanged, against a mesh of real processes."""
