"""How a door listens: HTTP with TLS and optional client certificates, and bounds on all that comes in."""
