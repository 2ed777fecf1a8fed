"""Who may do what: principals, credentials, policies, grants, quotas and accounts."""
