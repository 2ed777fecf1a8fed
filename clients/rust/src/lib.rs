//! The client of a Strongroom mesh.
//!
//! ```no_run
//! # async fn example() -> Result<(), strongroom::Error> {
//! use strongroom::{Client, Context, encryption::EncryptionClient};
//!
//! let client = Client::from_profile("")?;
//! let encryption = EncryptionClient::builder(client).key("payments").build()?;
//! let context = Context::from([("tenant".into(), "a".into())]);
//! let message = encryption.encrypt(b"attack at dawn", &context).await?;
//! let content = encryption.decrypt(&message, Some(&context)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] calls the services, [`encryption`] encrypts messages and files of any size in this process. Every failure
//! is an [`Error`] with a stable reason, the same in every language.

mod client;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod ids;
mod key_calls;
mod profile;
mod tokens;
mod trace;

pub mod encryption;

/// What `protos/` says, as code: messages, and a client for each service.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod contracts {
    include!(concat!(env!("OUT_DIR"), "/contracts.rs"));
}

mod debugs {
    include!(concat!(env!("OUT_DIR"), "/debugs.rs"));
}

pub use client::{Builder, Client, Service};
pub use connection::Channel;
pub use credentials::Credentials;
pub use error::Error;
pub use ids::request_id;
pub use key_calls::{DataKey, Decrypted, Encrypted, KeyCalls};

/// An encryption context: pairs that a ciphertext is bound to. It is not secret.
pub type Context = std::collections::BTreeMap<String, String>;
