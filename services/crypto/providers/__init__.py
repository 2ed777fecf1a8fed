"""Where the root key lives: a PKCS#11 token, or a file for development."""
