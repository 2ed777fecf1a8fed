"""The transit engine: keys of the mesh, used by Vault's API."""
