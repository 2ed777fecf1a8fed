"""What the secrets service does by itself: at its start, and when something is due."""
