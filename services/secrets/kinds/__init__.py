"""Types of secrets: what the service needs to know of each, apart from how its rotator works."""
