"""The encrypted message, byte for byte (docs/formats.md, "Encrypted message"): pure, without a mesh."""
