"""Messages that do not fit into memory."""
