"""What keeps generated files equal to what they are generated from."""
