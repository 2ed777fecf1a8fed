"""Handlers: each reads a request, calls the domain and writes the response."""
