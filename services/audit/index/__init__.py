"""What sealed events are found by."""
