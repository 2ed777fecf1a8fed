"""Secrets that are somewhere else, copied into an account: from HashiCorp Vault, OpenBao and AWS Secrets Manager."""
