"""Each service's own database, and how what it stores is changed."""
