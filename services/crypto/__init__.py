"""Every cryptographic operation, and the only service that talks to an HSM."""
