"""The mesh itself: how its services are, and its root key."""
