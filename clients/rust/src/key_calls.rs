//! What the encryption SDK asks of a mesh.

use std::fmt;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{Context, Error};

/// A data key, in the clear and encrypted.
pub struct DataKey {
    /// The data key.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The data key, encrypted under `key`.
    pub ciphertext: Vec<u8>,
    /// Full name of the key, also where an alias was given.
    pub key: String,
}

/// A ciphertext.
#[derive(Debug)]
pub struct Encrypted {
    /// It names its key, version and algorithm.
    pub ciphertext: Vec<u8>,
    /// Full name of the key.
    pub key: String,
}

/// A plaintext.
pub struct Decrypted {
    /// What was encrypted.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Full name of the key that it was under.
    pub key: String,
}

/// What [`crate::encryption`] asks of a mesh: a [`crate::Client`], or what stands in its place.
#[async_trait]
pub trait KeyCalls: Send + Sync {
    /// Makes a data key of 16 to 1,024 bytes.
    async fn generate_data_key(&self, key: &str, bytes: u32, context: &Context) -> Result<DataKey, Error>;

    /// Encrypts up to 65,536 bytes under a key.
    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &Context) -> Result<Encrypted, Error>;

    /// Decrypts; where `key` is not empty, only what is under it (else `KEY_MISMATCH`).
    async fn decrypt(&self, ciphertext: &[u8], context: &Context, key: &str) -> Result<Decrypted, Error>;

    /// The full name of a key that is given by its id, by `alias/…` or in full.
    fn key_name(&self, name: &str) -> Result<String, Error> {
        Ok(name.to_owned())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DataKey").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decrypted").field("key", &self.key).finish_non_exhaustive()
    }
}
