"""The audit log: events, usage, proofs and retention."""
