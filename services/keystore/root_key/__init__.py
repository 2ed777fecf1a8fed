"""The root key's versions, their rotation, and the keys of other services under it."""
