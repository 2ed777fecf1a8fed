"""Policies and grants, and what they decide."""
