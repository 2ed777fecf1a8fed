"""Who may use what: accounts, principals, policies, grants, credentials and quotas."""
