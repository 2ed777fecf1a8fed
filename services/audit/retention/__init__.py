"""How long events are at hand, and how long they can be read."""
