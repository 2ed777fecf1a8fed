"""Doors: translators that let existing software use the mesh unchanged. They have no keys, no state, no authority."""
