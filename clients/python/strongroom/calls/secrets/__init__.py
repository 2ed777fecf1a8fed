"""Secrets, their values, versions and rotations."""
