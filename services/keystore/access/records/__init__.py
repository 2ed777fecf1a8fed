"""Access records: what they are, and how the database keeps them."""
