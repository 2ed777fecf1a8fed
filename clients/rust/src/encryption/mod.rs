//! Messages, files and objects of any size, encrypted here under data keys that only the mesh can open.
//!
//! Every language writes one format (docs/formats.md, "Encrypted message"), so each reads what the others wrote.

mod body;
mod cache;
mod client;
#[cfg(test)]
mod client_tests;
mod context;
mod fields;
mod files;
mod header;
mod keys;
mod opening;
mod refusals;
mod streams;
#[cfg(test)]
mod vector_tests;

pub use cache::DataKeyCache;
pub use client::{Builder, EncryptionClient};
pub use files::DecryptingFile;
pub use keys::MeshKey;
pub use streams::{DecryptingReader, EncryptingWriter};
