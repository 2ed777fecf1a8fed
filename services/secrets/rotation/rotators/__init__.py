"""Rotators: how the value of each type of secret is made, and made valid where it is used."""
