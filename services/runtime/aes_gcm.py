"""What a value sealed by AES-GCM (NIST SP 800-38D) has beside its ciphertext, as every format here lays it out."""

from __future__ import annotations

NONCE_BYTES = 12
TAG_BYTES = 16
