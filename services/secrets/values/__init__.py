"""The values of secrets: sealed, opened, and their shapes."""
