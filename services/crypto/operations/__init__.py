"""What callers do with keys."""
