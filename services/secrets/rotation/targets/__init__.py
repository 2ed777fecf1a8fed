"""Where secrets are rotated: targets, and the processes that connect to them."""
