"""The audit log: every use of every key, durable before the caller gets an answer."""
