"""What callers prove themselves with, and the sessions that they get for it."""
