"""What keystore does by itself: at its start, and when something is due."""
