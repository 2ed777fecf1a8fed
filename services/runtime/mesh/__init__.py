"""How services of the mesh reach each other."""
