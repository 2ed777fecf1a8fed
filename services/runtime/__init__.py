"""What all four services are built from; imports no service."""
