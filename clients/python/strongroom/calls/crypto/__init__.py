"""What keys are used for."""
