"""The KV engines: secrets of the mesh, by Vault's API."""
