//! The keys of the mesh that data keys of messages are wrapped under.

use std::fmt;
use std::sync::Arc;

use super::body::DATA_KEY_BYTES;
use super::header::WrappedKey;
use crate::{Context, DataKey, Decrypted, Error, KeyCalls};

/// A key of a mesh: its full name or alias, and the client that reaches the mesh.
#[derive(Clone)]
pub struct MeshKey {
    pub(super) name: String,
    pub(super) mesh: String,
    calls: Arc<dyn KeyCalls>,
}

impl MeshKey {
    /// A key of the mesh that `calls`, a [`crate::Client`], reaches: an id such as `payments`, `alias/…`, or a full name.
    pub fn new(calls: Arc<dyn KeyCalls>, name: &str) -> Result<Self, Error> {
        if name.is_empty() {
            // A name that was not configured must not come to mean every key.
            let message = "a key has no name; for every key say MeshKey::any";
            return Err(Error::invalid("FIELD_REQUIRED", message, "keys"));
        }
        Ok(Self { name: calls.key_name(name)?, mesh: String::new(), calls })
    }

    /// Every key that the client may use: for decryption alone, in tools that people use. Whoever can write messages
    /// chooses the key then.
    pub fn any(calls: Arc<dyn KeyCalls>) -> Self {
        Self { name: String::new(), mesh: String::new(), calls }
    }

    /// Tells keys of different meshes apart where messages are under several: a word that writers and readers agree on.
    #[must_use]
    pub fn of_mesh(mut self, mesh: &str) -> Self {
        mesh.clone_into(&mut self.mesh);
        self
    }

    pub(super) async fn generate(&self, context: &Context) -> Result<DataKey, Error> {
        let bytes = u32::try_from(DATA_KEY_BYTES).unwrap_or_default();
        self.calls.generate_data_key(&self.name, bytes, context).await.map_err(|error| self.advised(error))
    }

    pub(super) async fn wrap(&self, data_key: &[u8], context: &Context, name: bool) -> Result<WrappedKey, Error> {
        let answer = self.calls.encrypt(&self.name, data_key, context).await.map_err(|error| self.advised(error))?;
        Ok(self.wrapped(answer.ciphertext, answer.key, name))
    }

    pub(super) fn wrapped(&self, encrypted_data_key: Vec<u8>, key: String, name: bool) -> WrappedKey {
        WrappedKey { encrypted_data_key, key: if name { key } else { String::new() }, mesh: self.mesh.clone() }
    }

    pub(super) async fn unwrap(&self, encrypted_data_key: &[u8], context: &Context) -> Result<Decrypted, Error> {
        self.calls.decrypt(encrypted_data_key, context, &self.name).await.map_err(|error| self.advised(error))
    }

    /// What tells this key apart from others.
    pub(super) fn id(&self) -> (String, String, usize) {
        (self.name.clone(), self.mesh.clone(), Arc::as_ptr(&self.calls).cast::<()>() as usize)
    }

    fn advised(&self, error: Error) -> Error {
        if !error.is_away() {
            return error;
        }
        let key = if self.name.is_empty() { "its key" } else { &self.name };
        error.with_advice(&format!(
            "so there is no data key of {key}: look at `strongroom status` and at the addresses that the client was \
             given; messages whose data keys a DataKeyCache holds go on meanwhile"
        ))
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MeshKey").field("name", &self.name).field("mesh", &self.mesh).finish_non_exhaustive()
    }
}
