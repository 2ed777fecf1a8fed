"""The door for what speaks Vault's HTTP API."""
