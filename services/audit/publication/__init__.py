"""What a log publishes: checkpoints, tiles and cosignatures."""
