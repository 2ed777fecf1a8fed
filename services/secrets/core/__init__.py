"""Secrets, versions and stages: what they are, and how the database keeps and changes them."""
