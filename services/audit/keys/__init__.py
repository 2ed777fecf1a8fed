"""The keys that events are sealed under, and that checkpoints are signed with."""
