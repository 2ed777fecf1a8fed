"""Transparency logs as C2SP specifies them: Merkle tree, tiles, signed notes, checkpoints, proofs.

What the audit service publishes and what anyone checks it with is read and written here, without I/O.
"""
