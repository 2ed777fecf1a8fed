"""Keys, their versions, aliases and imported material."""
