"""Failures of every kind over a mesh with replicas, under load, from a seed; see `weather.py` for the kinds."""
