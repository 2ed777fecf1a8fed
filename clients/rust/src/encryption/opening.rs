//! Which calls may open a message's data key, in which order, and what comes of them.

use zeroize::Zeroizing;

use super::body::{DATA_KEY_BYTES, MessageKeys};
use super::header::{Found, Header, WrappedKey};
use super::keys::MeshKey;
use super::refusals::{altered, key_mismatch, key_not_accepted};
use crate::{Context, Decrypted, Error};

const MAX_ATTEMPTS: usize = 16;

/// A header that was verified.
pub(super) struct Opened {
    pub(super) header: Header,
    pub(super) keys: MessageKeys,
    pub(super) context: Context,
    pub(super) data_key: Zeroizing<Vec<u8>>,
}

/// Opens the data key under the first accepted key that answers, and verifies the header with it.
pub(super) async fn open(found: Found, context: Option<&Context>, accepted: &[MeshKey]) -> Result<Opened, Error> {
    let header = found.header;
    let context = header.context_for(context)?;
    let answer = first_answer(&fitting(&header.wrapped_keys, accepted)?, &context).await?;
    let keys = MessageKeys::new(&answer.plaintext, header.chunk_size_log2, &header.context_digest)?;
    keys.verify(&found.data, &found.tag)?;
    Ok(Opened { header, keys, context, data_key: answer.plaintext })
}

type Attempt<'a> = (&'a WrappedKey, &'a MeshKey);

fn fitting<'a>(wrapped_keys: &'a [WrappedKey], accepted: &'a [MeshKey]) -> Result<Vec<Attempt<'a>>, Error> {
    let all = wrapped_keys.iter().flat_map(|wrapped| accepted.iter().map(move |key| (wrapped, key)));
    let attempts: Vec<_> = all.filter(|(wrapped, key)| fits(wrapped, key)).take(MAX_ATTEMPTS).collect();
    if attempts.is_empty() {
        let hints: Vec<_> = wrapped_keys.iter().map(|one| one.key.as_str()).filter(|key| !key.is_empty()).collect();
        return Err(key_not_accepted(&hints.join(", ")));
    }
    Ok(attempts)
}

fn fits(wrapped: &WrappedKey, key: &MeshKey) -> bool {
    if !wrapped.mesh.is_empty() && !key.mesh.is_empty() && wrapped.mesh != key.mesh {
        return false;
    }
    // What an alias stands for, its mesh knows.
    wrapped.key.is_empty() || key.name.is_empty() || wrapped.key == key.name || key.name.contains("/aliases/")
}

async fn first_answer(attempts: &[Attempt<'_>], context: &Context) -> Result<Decrypted, Error> {
    let mut refusals = Vec::new();
    for (wrapped, key) in attempts {
        let answer = key.unwrap(&wrapped.encrypted_data_key, context).await;
        match answer.and_then(|answer| checked(answer, wrapped)) {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let decides = refusals.iter().position(Error::is_away).unwrap_or(0);
    Err(refusals.swap_remove(decides))
}

fn checked(answer: Decrypted, wrapped: &WrappedKey) -> Result<Decrypted, Error> {
    if !wrapped.key.is_empty() && !answer.key.is_empty() && wrapped.key != answer.key {
        return Err(key_mismatch());
    }
    if answer.plaintext.len() != DATA_KEY_BYTES {
        return Err(altered());
    }
    Ok(answer)
}
