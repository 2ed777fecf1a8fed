"""How a door acts for its callers in the mesh: by their own sessions, which it passes on."""
