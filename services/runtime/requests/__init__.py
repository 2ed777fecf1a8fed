"""What requests are made of: names, fields, filters, pages, tags."""
