"""How calls arrive, are served, and are answered."""
