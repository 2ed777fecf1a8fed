"""Keys: made, imported, wrapped, cached and opened for use."""
