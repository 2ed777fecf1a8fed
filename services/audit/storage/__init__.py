"""A log's database: its tables, its leaves, and the room that is left for it."""
