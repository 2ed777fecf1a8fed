"""The logs of the mesh, each put together from the rooms below."""
