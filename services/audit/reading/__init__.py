"""How events are read, and what a log proves of itself."""
