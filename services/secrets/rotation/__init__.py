"""Rotations: when, by which steps, and what happens where one fails."""
