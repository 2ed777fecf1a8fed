//! What messages and streams cost beside bare AES-256-GCM:
//!
//!     bench ROUNDS
//!
//! What is compared takes turns; the figures are the medians of how many times as fast the SDK is as the bare cipher.

use std::env;
use std::error::Error as StdError;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use strongroom::encryption::{DataKeyCache, EncryptionClient};
use strongroom::{Context, DataKey, Decrypted, Encrypted, Error, KeyCalls};
use tonic::Code;
use zeroize::Zeroizing;

const KIB: usize = 1024;
const MESSAGES: usize = 5_000;
const CHUNK: usize = 1 << 16;
const STREAMED: usize = 32 << 20;
const KEY: &str = "accounts/main/keys/bench";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let rounds: usize = env::args().nth(1).ok_or("USAGE: bench ROUNDS")?.parse()?;
    let limits = DataKeyCache { max_messages: u64::MAX, ..DataKeyCache::default() };
    let encryption = EncryptionClient::builder(Wrapping).key(KEY).cache(limits).build()?;
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &random::<32>()?).map_err(unspecified)?);
    let (mut messages, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        messages.push(quotient(bare_messages(&cipher)?, own_messages(&encryption).await?));
        streams.push(quotient(bare_stream(&cipher)?, own_stream(&encryption).await?));
    }
    println!(r#"{{"kib_vs_bare": {}, "stream_vs_bare": {}}}"#, median(messages), median(streams));
    Ok(())
}

/// Messages as short as can be: a random nonce and the ciphertext.
fn bare_messages(cipher: &LessSafeKey) -> Result<Duration, Box<dyn StdError>> {
    let content = [7; KIB];
    let began = Instant::now();
    for _ in 0..MESSAGES {
        let nonce = random::<12>()?;
        let mut message = Vec::with_capacity(12 + KIB + 16);
        message.extend_from_slice(&nonce);
        message.extend_from_slice(&content);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut message[12..]).map_err(unspecified)?;
        message.extend_from_slice(tag.as_ref());
        black_box(message);
    }
    Ok(began.elapsed())
}

async fn own_messages(encryption: &EncryptionClient) -> Result<Duration, Error> {
    let (content, context) = ([7; KIB], Context::new());
    let began = Instant::now();
    for _ in 0..MESSAGES {
        black_box(encryption.encrypt(&content, &context).await?);
    }
    Ok(began.elapsed())
}

/// Chunks of the same size, each from the content into the same place.
fn bare_stream(cipher: &LessSafeKey) -> Result<Duration, Box<dyn StdError>> {
    let content = vec![7; CHUNK];
    let mut sealed = Vec::with_capacity(CHUNK + 16);
    let began = Instant::now();
    for number in 0..STREAMED / CHUNK {
        sealed.clear();
        sealed.extend_from_slice(&content);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).map_err(unspecified)?;
        io::sink().write_all(black_box(&sealed))?;
    }
    Ok(began.elapsed())
}

async fn own_stream(encryption: &EncryptionClient) -> Result<Duration, Box<dyn StdError>> {
    let piece = vec![7; 1 << 18];
    let began = Instant::now();
    let mut writer = encryption.encrypting_writer(io::sink(), &Context::new()).await?;
    for _ in 0..STREAMED / piece.len() {
        writer.write_all(black_box(&piece))?;
    }
    writer.finish()?;
    Ok(began.elapsed())
}

/// A mesh that costs nothing, since the data key is at hand.
struct Wrapping;

#[async_trait]
impl KeyCalls for Wrapping {
    async fn generate_data_key(&self, key: &str, _: u32, _: &Context) -> Result<DataKey, Error> {
        let plaintext = Zeroizing::new(vec![1; 32]);
        Ok(DataKey { plaintext, ciphertext: vec![2; 94], key: key.to_owned() })
    }

    async fn encrypt(&self, _: &str, _: &[u8], _: &Context) -> Result<Encrypted, Error> {
        Err(not_here())
    }

    async fn decrypt(&self, _: &[u8], _: &Context, _: &str) -> Result<Decrypted, Error> {
        Err(not_here())
    }
}

fn not_here() -> Error {
    Error::new("UNIMPLEMENTED", "nothing else is measured", Code::Unimplemented, "")
}

fn random<const SIZE: usize>() -> Result<[u8; SIZE], Box<dyn StdError>> {
    let mut bytes = [0; SIZE];
    SystemRandom::new().fill(&mut bytes).map_err(unspecified)?;
    Ok(bytes)
}

fn unspecified(_: ring::error::Unspecified) -> Box<dyn StdError> {
    "the cipher refused".into()
}

fn quotient(bare: Duration, own: Duration) -> f64 {
    bare.as_secs_f64() / own.as_secs_f64()
}

/// Without the first round, in which caches are cold.
fn median(mut quotients: Vec<f64>) -> f64 {
    quotients.remove(0);
    quotients.sort_by(f64::total_cmp);
    quotients[quotients.len() / 2]
}
