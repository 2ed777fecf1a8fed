"""Secrets, their versions and stages: values only as ciphertext, each version under a data key of its own."""
