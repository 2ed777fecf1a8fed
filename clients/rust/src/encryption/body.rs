//! The body of a message: its keys, and chunks that are sealed with XAES-256-GCM in the STREAM construction.
//!
//! The nonce of a chunk says to which message it belongs, where in it, and whether it is the last (Hoang, Reyhanitabar,
//! Rogaway, Vizár, CRYPTO 2015). XAES-256-GCM (<https://c2sp.org/XAES-256-GCM>) derives an AES key from the first half of
//! the nonce, which all chunks of a message share.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::context::Digest;
use super::header::TAG_BYTES as HEADER_TAG_BYTES;
use super::refusals::{altered, too_large};
use crate::Error;

pub(super) const DATA_KEY_BYTES: usize = 32;
pub(super) const NONCE_PREFIX_BYTES: usize = 19;
pub(super) const TAG_BYTES: usize = 16;
const MAX_CHUNKS: u64 = (1 << 32) - 1;

const LABEL: &[u8] = b"strongroom message v2";
/// Of the nonce prefix, which the key of a message is derived from.
const DERIVED_BYTES: usize = 12;
const BLOCK: usize = 16;

pub(super) type NoncePrefix = [u8; NONCE_PREFIX_BYTES];

/// A nonce prefix for a new message.
pub(super) fn nonce_prefix() -> Result<NoncePrefix, Error> {
    let mut prefix = [0; NONCE_PREFIX_BYTES];
    SystemRandom::new().fill(&mut prefix).map_err(|_| Error::no_random())?;
    Ok(prefix)
}

/// What is derived from one data key, for one encryption context and size of chunks; used for many messages.
pub(super) struct MessageKeys {
    block: Aes256,
    header_key: hmac::Key,
    subkey: [u8; BLOCK],
}

struct Both;

impl KeyType for Both {
    fn len(&self) -> usize {
        64
    }
}

impl MessageKeys {
    /// Fails with `MESSAGE_ALTERED` for a data key that has not 32 bytes: another ciphertext was put in its place.
    pub(super) fn new(data_key: &[u8], chunk_size_log2: u8, context_digest: &Digest) -> Result<Self, Error> {
        if data_key.len() != DATA_KEY_BYTES {
            return Err(altered());
        }
        let derived = derived(data_key, chunk_size_log2, context_digest)?;
        let block = Aes256::new_from_slice(&derived[..32]).map_err(|_| altered())?;
        let mut zero = [0; BLOCK].into();
        block.encrypt_block(&mut zero);
        Ok(Self { block, header_key: hmac::Key::new(hmac::HMAC_SHA256, &derived[32..]), subkey: doubled(zero.into()) })
    }

    /// What authenticates a header, and commits to the data key.
    pub(super) fn header_tag(&self, header: &[u8]) -> [u8; HEADER_TAG_BYTES] {
        let mut tag = [0; HEADER_TAG_BYTES];
        tag.copy_from_slice(hmac::sign(&self.header_key, header).as_ref());
        tag
    }

    /// Fails with `MESSAGE_ALTERED` unless `tag` is the header's.
    pub(super) fn verify(&self, header: &[u8], tag: &[u8]) -> Result<(), Error> {
        hmac::verify(&self.header_key, header, tag).map_err(|_| altered())
    }

    /// What seals and opens the chunks of the message with this nonce prefix.
    pub(super) fn cipher(&self, prefix: &NoncePrefix) -> Result<ChunkCipher, Error> {
        let key = UnboundKey::new(&AES_256_GCM, self.message_key(prefix).as_ref()).map_err(|_| altered())?;
        let mut nonce_start = [0; NONCE_PREFIX_BYTES - DERIVED_BYTES];
        nonce_start.copy_from_slice(&prefix[DERIVED_BYTES..]);
        Ok(ChunkCipher { key: LessSafeKey::new(key), nonce_start })
    }

    /// The AES key of all chunks of a message.
    pub(super) fn message_key(&self, prefix: &NoncePrefix) -> Zeroizing<[u8; 2 * BLOCK]> {
        let mut key = Zeroizing::new([0; 2 * BLOCK]);
        for (half, counter) in key.chunks_exact_mut(BLOCK).zip([1, 2]) {
            let mut input = [0; BLOCK];
            input[..4].copy_from_slice(&[0, counter, b'X', 0]);
            input[4..].copy_from_slice(&prefix[..DERIVED_BYTES]);
            input.iter_mut().zip(self.subkey).for_each(|(byte, own)| *byte ^= own);
            let mut block = input.into();
            self.block.encrypt_block(&mut block);
            half.copy_from_slice(&block);
        }
        key
    }
}

/// Body key and header key.
fn derived(data_key: &[u8], chunk_size_log2: u8, context_digest: &Digest) -> Result<Zeroizing<[u8; 64]>, Error> {
    let mut derived = Zeroizing::new([0; 64]);
    Salt::new(HKDF_SHA256, &[])
        .extract(data_key)
        .expand(&[LABEL, &[chunk_size_log2], context_digest], Both)
        .and_then(|output| output.fill(derived.as_mut()))
        .map_err(|_| altered())?;
    Ok(derived)
}

/// The first subkey of CMAC (NIST SP 800-38B, §6.1), from the encryption of the zero block.
fn doubled(block: [u8; BLOCK]) -> [u8; BLOCK] {
    let number = u128::from_be_bytes(block);
    let overflow = if number >> 127 == 1 { 0x87 } else { 0 };
    (number << 1 ^ overflow).to_be_bytes()
}

/// One message's key with its nonces.
pub(super) struct ChunkCipher {
    key: LessSafeKey,
    nonce_start: [u8; NONCE_PREFIX_BYTES - DERIVED_BYTES],
}

impl ChunkCipher {
    /// Encrypts the chunk `number`, counted from 0, in its place; answers its tag. Fails with `MESSAGE_TOO_LARGE`.
    pub(super) fn seal(&self, number: u64, last: bool, content: &mut [u8]) -> Result<[u8; TAG_BYTES], Error> {
        let nonce = self.nonce(number, last)?;
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), content).map_err(|_| too_large())?;
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(sealed.as_ref());
        Ok(tag)
    }

    /// Verifies and decrypts a chunk, its tag included, in its place; answers how many bytes its content has.
    pub(super) fn open(&self, number: u64, last: bool, sealed: &mut [u8]) -> Result<usize, Error> {
        let nonce = self.nonce(number, last)?;
        self.key.open_in_place(nonce, Aad::empty(), sealed).map(|content| content.len()).map_err(|_| altered())
    }

    fn nonce(&self, number: u64, last: bool) -> Result<Nonce, Error> {
        let number =
            u32::try_from(number).ok().filter(|number| u64::from(*number) < MAX_CHUNKS).ok_or_else(too_large)?;
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.nonce_start);
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Where the chunks of a body are, by its length behind the nonce prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) chunks: u64,
    pub(super) content_bytes: u64,
}

impl Layout {
    /// Fails with `MESSAGE_ALTERED` for a length that no body has, and `MESSAGE_TOO_LARGE`.
    pub(super) fn of(body_bytes: u64, chunk_size: usize) -> Result<Self, Error> {
        let tag = TAG_BYTES as u64;
        let sealed_size = chunk_size as u64 + tag;
        if body_bytes < tag {
            return Err(altered());
        }
        let chunks = body_bytes.div_ceil(sealed_size);
        if chunks > MAX_CHUNKS {
            return Err(too_large());
        }
        let last = body_bytes - (chunks - 1) * sealed_size;
        // One content has one encoding: an empty chunk is for an empty message alone.
        if last < tag || (last == tag && chunks > 1) {
            return Err(altered());
        }
        Ok(Self { chunks, content_bytes: body_bytes - chunks * tag })
    }

    /// Where the chunk `number` begins behind the nonce prefix, and how many bytes it has, tag included.
    pub(super) fn sealed_range(&self, number: u64, chunk_size: usize) -> (u64, u64) {
        let (chunk_size, tag) = (chunk_size as u64, TAG_BYTES as u64);
        (number * (chunk_size + tag), chunk_size.min(self.content_bytes - number * chunk_size) + tag)
    }
}

/// Nonce prefix and chunks of a content that is in memory as a whole, behind `message`.
pub(super) fn seal(
    keys: &MessageKeys,
    content: &[u8],
    chunk_size: usize,
    prefix: &NoncePrefix,
    message: &mut Vec<u8>,
) -> Result<(), Error> {
    let cipher = keys.cipher(prefix)?;
    let count = content.len().div_ceil(chunk_size).max(1);
    message.reserve_exact(NONCE_PREFIX_BYTES + content.len() + count * TAG_BYTES);
    message.extend_from_slice(prefix);
    for number in 0..count {
        let piece = &content[number * chunk_size..content.len().min((number + 1) * chunk_size)];
        let start = message.len();
        message.extend_from_slice(piece);
        let tag = cipher.seal(number as u64, number + 1 == count, &mut message[start..])?;
        message.extend_from_slice(&tag);
    }
    Ok(())
}

/// The content of nonce prefix and chunks, all of it or nothing.
pub(super) fn open(keys: &MessageKeys, body: &[u8], chunk_size: usize) -> Result<Vec<u8>, Error> {
    let (prefix, chunks) = body.split_first_chunk::<NONCE_PREFIX_BYTES>().ok_or_else(altered)?;
    let layout = Layout::of(chunks.len() as u64, chunk_size)?;
    let cipher = keys.cipher(prefix)?;
    let mut content = Vec::with_capacity(chunks.len());
    for (number, sealed) in chunks.chunks(chunk_size + TAG_BYTES).enumerate() {
        let start = content.len();
        content.extend_from_slice(sealed);
        let size = cipher.open(number as u64, number as u64 + 1 == layout.chunks, &mut content[start..])?;
        content.truncate(start + size);
    }
    Ok(content)
}
