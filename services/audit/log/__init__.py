"""How events are written: by one process, in durable groups."""
