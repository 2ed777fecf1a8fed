"""What callers do with keys, versions and aliases."""
