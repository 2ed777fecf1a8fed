"""What comes from outside the mesh, and what goes there."""
