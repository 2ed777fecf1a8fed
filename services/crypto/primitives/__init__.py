"""Cryptography under the material of one key version."""
