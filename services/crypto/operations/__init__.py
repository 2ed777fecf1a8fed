"""What callers do with keys. `encryption.py` is the one to read first."""
