"""Keystore: accounts, principals, policies; keys, versions, aliases."""
