"""What callers do with secrets: create, list, change, watch and delete them."""
