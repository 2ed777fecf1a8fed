"""Accounts, and what they hold: principals, quotas, OIDC providers."""
