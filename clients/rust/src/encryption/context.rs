//! The canonical bytes of an encryption context (docs/formats.md, "Encryption context"), written and read.

use ring::digest::{SHA256, digest as sha};

use super::fields::Fields;
use super::refusals::altered;
use crate::{Context, Error};

const MAX_BYTES: usize = 8192;
pub(super) const DIGEST_BYTES: usize = 32;

pub(super) type Digest = [u8; DIGEST_BYTES];

/// Equal contexts have equal bytes, different ones never. Fails with `FIELD_INVALID` or `FIELD_TOO_LARGE`.
pub(super) fn canonical(pairs: &Context) -> Result<Vec<u8>, Error> {
    if pairs.len() > MAX_BYTES / 4 {
        return Err(too_large());
    }
    let size = pairs.iter().fold(2, |size: usize, (key, value)| size.saturating_add(4 + key.len() + value.len()));
    if pairs.contains_key("") {
        return Err(Error::invalid("FIELD_INVALID", "the encryption context has an empty key", "context"));
    }
    if size > MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(size);
    put_length(&mut bytes, pairs.len());
    // In the order of the keys' bytes, as texts are ordered.
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        put_length(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok(bytes)
}

fn too_large() -> Error {
    Error::invalid("FIELD_TOO_LARGE", "the encryption context has more than 8,192 bytes", "context")
}

/// What stands for a context where the context itself does not.
pub(super) fn digest(canonical: &[u8]) -> Digest {
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(sha(&SHA256, canonical).as_ref());
    digest
}

/// The pairs of canonical bytes. Fails with `MESSAGE_ALTERED` for any other bytes.
pub(super) fn pairs(canonical: &[u8]) -> Result<Context, Error> {
    if canonical.len() > MAX_BYTES {
        return Err(altered());
    }
    let mut fields = Fields::new(canonical);
    let mut pairs = Context::new();
    let mut before = String::new();
    for _ in 0..fields.number(2)? {
        let key = text(&mut fields)?;
        // The first key is more than nothing, each further one more than the one before.
        if key <= before {
            return Err(altered());
        }
        before.clone_from(&key);
        pairs.insert(key, text(&mut fields)?);
    }
    fields.end()?;
    Ok(pairs)
}

pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // Every length was compared with a limit below 2^16.
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

fn text(fields: &mut Fields<'_>) -> Result<String, Error> {
    let length = fields.number(2)?;
    String::from_utf8(fields.take(length)?.to_vec()).map_err(|_| altered())
}
