"""Keys, versions and aliases: what they are, and how the database keeps them."""
