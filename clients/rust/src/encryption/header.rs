//! The header of a message: who can open it, its encryption context, and the size of its chunks.

use std::io::{self, Read};
use std::ops::RangeInclusive;

use super::context::{self, Digest, put_length};
use super::fields::Fields;
use super::refusals::{altered, chunk_size_invalid, context_mismatch, not_recognized, version_unknown};
use crate::{Context, Error};

const MAGIC: &[u8] = b"\x89SRFILE";
pub(super) const VERSION: u8 = 2;
pub(super) const TAG_BYTES: usize = 32;
pub(super) const CHUNK_SIZE_LOG2: RangeInclusive<u8> = 6..=20;
pub(super) const MAX_WRAPPED_KEYS: usize = 16;

const FIXED_BYTES: usize = 13;
const MAX_HINT_BYTES: usize = 255;
const MAX_ENCRYPTED_DATA_KEY_BYTES: usize = 2048;
const DIGEST_FORM: u8 = 0;
const WHOLE_FORM: u8 = 1;

/// A message's data key, encrypted under one key. Both names are hints, which nothing but the mesh confirms.
#[derive(Debug, Clone)]
pub(super) struct WrappedKey {
    pub(super) encrypted_data_key: Vec<u8>,
    pub(super) key: String,
    pub(super) mesh: String,
}

/// What precedes the body. Nothing in it is secret, and all of it is under the header tag.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) chunk_size_log2: u8,
    pub(super) context_digest: Digest,
    /// The encryption context, where the writer wrote it down.
    pub(super) context: Option<Context>,
    pub(super) wrapped_keys: Vec<WrappedKey>,
}

/// A header as it was found, and the tag behind it, which nobody has verified yet.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
    pub(super) tag: [u8; TAG_BYTES],
}

/// Reads header and tag, and takes no more than these, at most 65,580 bytes. A refusal is within the error.
pub(super) fn read(input: &mut impl Read) -> io::Result<Found> {
    let mut data = read_up_to(input, FIXED_BYTES)?;
    if data.len() <= MAGIC.len() || !data.starts_with(MAGIC) {
        return Err(not_recognized().into());
    }
    if data[7] != VERSION {
        return Err(version_unknown(data[7]).into());
    }
    if data.len() != FIXED_BYTES {
        return Err(altered().into());
    }
    let (chunk_size_log2, form, count) = (data[8], data[9], data[10]);
    if !CHUNK_SIZE_LOG2.contains(&chunk_size_log2) {
        return Err(chunk_size_invalid(chunk_size_log2).into());
    }
    if form > WHOLE_FORM || count == 0 || usize::from(count) > MAX_WRAPPED_KEYS {
        return Err(altered().into());
    }
    let length = usize::from(u16::from_be_bytes([data[11], data[12]]));
    let rest = read_up_to(input, length + TAG_BYTES)?;
    let (rest, tag) = rest.split_at_checked(length).ok_or_else(altered)?;
    let tag = tag.try_into().map_err(|_| altered())?;
    let header = parsed(chunk_size_log2, form, count, rest)?;
    data.extend_from_slice(rest);
    Ok(Found { header, data, tag })
}

/// As many bytes as asked for, or fewer at the end.
pub(super) fn read_up_to(input: &mut impl Read, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size);
    input.take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parsed(chunk_size_log2: u8, form: u8, count: u8, rest: &[u8]) -> Result<Header, Error> {
    let mut fields = Fields::new(rest);
    let (context_digest, context) = if form == DIGEST_FORM {
        let digest = fields.take(context::DIGEST_BYTES)?;
        (digest.try_into().map_err(|_| altered())?, None)
    } else {
        let length = fields.number(2)?;
        let canonical = fields.take(length)?;
        (context::digest(canonical), Some(context::pairs(canonical)?))
    };
    let mut wrapped_keys = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (key, mesh) = (hint(&mut fields)?, hint(&mut fields)?);
        let length = fields.number(2)?;
        if length == 0 || length > MAX_ENCRYPTED_DATA_KEY_BYTES {
            return Err(altered());
        }
        wrapped_keys.push(WrappedKey { encrypted_data_key: fields.take(length)?.to_vec(), key, mesh });
    }
    fields.end()?;
    Ok(Header { chunk_size_log2, context_digest, context, wrapped_keys })
}

impl Header {
    /// The header of a new message. Fails with `FIELD_INVALID` or `FIELD_TOO_LARGE` for the context.
    pub(super) fn new(
        chunk_size_log2: u8,
        pairs: &Context,
        store_context: bool,
        wrapped_keys: Vec<WrappedKey>,
    ) -> Result<Self, Error> {
        let context_digest = context::digest(&context::canonical(pairs)?);
        Ok(Self { chunk_size_log2, context_digest, context: store_context.then(|| pairs.clone()), wrapped_keys })
    }

    pub(super) fn chunk_size(&self) -> usize {
        1 << self.chunk_size_log2
    }

    /// The message's context, where `given` is that or nothing is given. Fails with `CONTEXT_MISMATCH`.
    pub(super) fn context_for(&self, given: Option<&Context>) -> Result<Context, Error> {
        if let (None, Some(own)) = (given, &self.context) {
            return Ok(own.clone());
        }
        let pairs = given.cloned().unwrap_or_default();
        if context::digest(&context::canonical(&pairs)?) != self.context_digest {
            return Err(context_mismatch());
        }
        Ok(pairs)
    }

    /// The header as it is in the message, without its tag.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        if self.wrapped_keys.is_empty() || self.wrapped_keys.len() > MAX_WRAPPED_KEYS {
            return Err(Error::invalid("FIELD_INVALID", "a message is under 1 to 16 keys", "keys"));
        }
        let mut rest = Vec::new();
        match &self.context {
            None => rest.extend_from_slice(&self.context_digest),
            Some(pairs) => {
                let canonical = context::canonical(pairs)?;
                put_length(&mut rest, canonical.len());
                rest.extend_from_slice(&canonical);
            }
        }
        for wrapped in &self.wrapped_keys {
            put_hint(&mut rest, &wrapped.key)?;
            put_hint(&mut rest, &wrapped.mesh)?;
            let length = wrapped.encrypted_data_key.len();
            if length == 0 || length > MAX_ENCRYPTED_DATA_KEY_BYTES {
                return Err(Error::invalid("FIELD_TOO_LARGE", "an encrypted data key has 1 to 2,048 bytes", "keys"));
            }
            put_length(&mut rest, length);
            rest.extend_from_slice(&wrapped.encrypted_data_key);
        }
        let form = if self.context.is_none() { DIGEST_FORM } else { WHOLE_FORM };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[VERSION, self.chunk_size_log2, form]);
        bytes.extend(u8::try_from(self.wrapped_keys.len()));
        put_length(&mut bytes, rest.len());
        bytes.extend_from_slice(&rest);
        Ok(bytes)
    }
}

fn hint(fields: &mut Fields<'_>) -> Result<String, Error> {
    let length = fields.number(1)?;
    let text = fields.take(length)?;
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err(altered());
    }
    Ok(text.iter().map(|byte| char::from(*byte)).collect())
}

fn put_hint(bytes: &mut Vec<u8>, hint: &str) -> Result<(), Error> {
    if hint.len() > MAX_HINT_BYTES || !hint.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "a hint has at most 255 printable ASCII characters and no space";
        return Err(Error::invalid("FIELD_INVALID", message, "keys"));
    }
    bytes.extend(u8::try_from(hint.len()));
    bytes.extend_from_slice(hint.as_bytes());
    Ok(())
}
