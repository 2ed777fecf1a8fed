"""The root key in a PKCS#11 token, and keys that are used inside it."""
