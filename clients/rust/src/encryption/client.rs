//! What an application encrypts with.

use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use super::body::{self, ChunkCipher, MessageKeys, NONCE_PREFIX_BYTES, nonce_prefix};
use super::cache::{DataKeyCache, Room, Spent};
use super::context::canonical;
use super::files::DecryptingFile;
use super::header::{self, CHUNK_SIZE_LOG2, Header, MAX_WRAPPED_KEYS};
use super::keys::MeshKey;
use super::opening::{self, Opened};
use super::refusals::altered;
use super::streams::{DecryptingReader, EncryptingWriter};
use crate::{Context, Error, KeyCalls};

const DEFAULT_CHUNK_SIZE_LOG2: u8 = 16;

/// Encrypts messages of any size here, under data keys that the mesh wraps.
///
/// Every message is bound to its encryption context, and opens under any one of the keys that it was written for. Only
/// messages under the keys of this client are decrypted, unless it is told others.
///
/// The reasons of refusals: `MESSAGE_NOT_RECOGNIZED`, `MESSAGE_VERSION_UNKNOWN`, `MESSAGE_CHUNK_SIZE_INVALID`,
/// `MESSAGE_ALTERED`, `MESSAGE_TOO_LARGE`, `CONTEXT_MISMATCH`, `KEY_NOT_ACCEPTED`, `KEY_MISMATCH`, and what the mesh
/// answers.
pub struct EncryptionClient {
    writing: Arc<Writing>,
    rooms: Option<Rooms>,
}

/// How messages are written.
struct Writing {
    keys: Vec<MeshKey>,
    store_context: bool,
    name_keys: bool,
    chunk_size_log2: u8,
}

struct Rooms {
    writing: Room<Context, Beginning>,
    reading: Room<Asked, Opened>,
}

/// What messages of one data key begin with: header and tag, and the keys of their bodies.
struct Beginning {
    head: Vec<u8>,
    keys: MessageKeys,
}

/// What an opened header is kept for: accepted keys, header and tag, and the context that was given.
type Asked = (Vec<(String, String, usize)>, Vec<u8>, Option<Context>);

impl EncryptionClient {
    /// Begins a client for keys of the mesh that `calls`, a [`crate::Client`], reaches.
    pub fn builder(calls: impl KeyCalls + 'static) -> Builder {
        Builder {
            calls: Arc::new(calls),
            names: Vec::new(),
            keys: Vec::new(),
            store_context: false,
            name_keys: true,
            chunk_size_log2: DEFAULT_CHUNK_SIZE_LOG2,
            cache: None,
        }
    }

    /// The message that holds `content`, some 240 bytes longer with one key.
    ///
    /// `context` is the encryption context: pairs that the message is bound to, not secret, up to 8,192 bytes in all.
    pub async fn encrypt(&self, content: &[u8], context: &Context) -> Result<Vec<u8>, Error> {
        let (beginning, _) = self.begin(context, content.len() as u64).await?;
        let mut message = beginning.head.clone();
        body::seal(&beginning.keys, content, self.writing.chunk_size(), &nonce_prefix()?, &mut message)?;
        Ok(message)
    }

    /// The content of a message, all of it verified.
    ///
    /// `context` is what it was encrypted with; None where the message holds it itself, or it is empty.
    pub async fn decrypt(&self, message: &[u8], context: Option<&Context>) -> Result<Vec<u8>, Error> {
        self.decrypt_under(message, context, &self.writing.keys).await
    }

    /// The content of a message that is under one of `accepted`.
    pub async fn decrypt_under(
        &self,
        message: &[u8],
        context: Option<&Context>,
        accepted: &[MeshKey],
    ) -> Result<Vec<u8>, Error> {
        let mut input = message;
        let opened = self.open(&mut input, context, accepted, message.len() as u64).await.map_err(own)?;
        body::open(&opened.keys, input, opened.header.chunk_size())
    }

    /// What content is written to, whose message goes into `output`, in constant memory. The mesh is asked here, and not
    /// while it is written.
    pub async fn encrypting_writer<W: Write>(
        &self,
        output: W,
        context: &Context,
    ) -> Result<EncryptingWriter<W>, Error> {
        let (beginning, spent) = self.begin(context, 0).await?;
        let prefix = nonce_prefix()?;
        let mut head = beginning.head.clone();
        head.extend_from_slice(&prefix);
        Ok(EncryptingWriter::new(output, head, beginning.keys.cipher(&prefix)?, self.writing.chunk_size(), spent))
    }

    /// What the content of the message in `input` is read from, in constant memory. Its header is read here, and the mesh
    /// is asked. A refusal is in [`Error::within`] of the error.
    pub async fn decrypting_reader<R: Read>(
        &self,
        input: R,
        context: Option<&Context>,
    ) -> io::Result<DecryptingReader<R>> {
        self.decrypting_reader_under(input, context, &self.writing.keys).await
    }

    /// What the content of a message that is under one of `accepted` is read from.
    pub async fn decrypting_reader_under<R: Read>(
        &self,
        mut input: R,
        context: Option<&Context>,
        accepted: &[MeshKey],
    ) -> io::Result<DecryptingReader<R>> {
        let (cipher, chunk_size) = self.reading(&mut input, context, accepted).await?;
        Ok(DecryptingReader::new(input, cipher, chunk_size))
    }

    /// The content of the message in `input`, from where it stands to its end, to be read anywhere, in constant memory.
    /// Its header and its last chunk are read here, and the mesh is asked.
    pub async fn decrypting_file<R: Read + Seek>(
        &self,
        input: R,
        context: Option<&Context>,
    ) -> io::Result<DecryptingFile<R>> {
        self.decrypting_file_under(input, context, &self.writing.keys).await
    }

    /// The content of a message that is under one of `accepted`, to be read anywhere.
    pub async fn decrypting_file_under<R: Read + Seek>(
        &self,
        mut input: R,
        context: Option<&Context>,
        accepted: &[MeshKey],
    ) -> io::Result<DecryptingFile<R>> {
        let (cipher, chunk_size) = self.reading(&mut input, context, accepted).await?;
        DecryptingFile::new(input, cipher, chunk_size)
    }

    /// A message under `others`, with the same body. Whoever could open it before may have kept its data key: to shut
    /// them out of a content, encrypt it anew.
    pub async fn rewrap(
        &self,
        message: &[u8],
        others: &[MeshKey],
        context: Option<&Context>,
    ) -> Result<Vec<u8>, Error> {
        self.rewrap_under(message, others, context, &self.writing.keys).await
    }

    /// A message that is under one of `accepted` now, under `others`.
    pub async fn rewrap_under(
        &self,
        message: &[u8],
        others: &[MeshKey],
        context: Option<&Context>,
        accepted: &[MeshKey],
    ) -> Result<Vec<u8>, Error> {
        let mut input = message;
        let opened = self.open(&mut input, context, accepted, 0).await.map_err(own)?;
        let mut wrapped_keys = Vec::new();
        for key in others {
            wrapped_keys.push(key.wrap(&opened.data_key, &opened.context, self.writing.name_keys).await?);
        }
        let mut rewrapped = head(&Header { wrapped_keys, ..opened.header.clone() }, &opened.keys)?;
        rewrapped.extend_from_slice(input);
        Ok(rewrapped)
    }

    /// Forgets every data key that is kept for messages to come.
    pub fn forget_data_keys(&self) {
        if let Some(rooms) = &self.rooms {
            rooms.writing.clear();
            rooms.reading.clear();
        }
    }

    async fn begin(&self, context: &Context, bytes: u64) -> Result<(Arc<Beginning>, Arc<Spent>), Error> {
        let Some(rooms) = &self.rooms else {
            return Ok((Arc::new(self.writing.begun(context).await?), Arc::default()));
        };
        let fetch = || {
            let (writing, context) = (Arc::clone(&self.writing), context.clone());
            async move { writing.begun(&context).await }
        };
        let kept = rooms.writing.get(context, bytes, fetch).await?;
        Ok((kept.value, kept.spent))
    }

    /// What opens the chunks of the message in `input`, and their size. Takes header and nonce prefix.
    async fn reading(
        &self,
        input: &mut impl Read,
        context: Option<&Context>,
        accepted: &[MeshKey],
    ) -> io::Result<(ChunkCipher, usize)> {
        let opened = self.open(input, context, accepted, 0).await?;
        let prefix = header::read_up_to(input, NONCE_PREFIX_BYTES)?.try_into().map_err(|_| altered())?;
        Ok((opened.keys.cipher(&prefix)?, opened.header.chunk_size()))
    }

    async fn open(
        &self,
        input: &mut impl Read,
        context: Option<&Context>,
        accepted: &[MeshKey],
        bytes: u64,
    ) -> io::Result<Arc<Opened>> {
        let found = header::read(input)?;
        let Some(rooms) = &self.rooms else {
            return Ok(Arc::new(opening::open(found, context, accepted).await?));
        };
        // By header, tag and all: what was verified once is verified for the same bytes alone.
        let bytes_of_head = [found.data.as_slice(), &found.tag].concat();
        let asked = (accepted.iter().map(MeshKey::id).collect(), bytes_of_head, context.cloned());
        let fetch = || {
            let (found, context, accepted) = (found.clone(), context.cloned(), accepted.to_vec());
            async move { opening::open(found, context.as_ref(), &accepted).await }
        };
        Ok(rooms.reading.get(&asked, bytes, fetch).await?.value)
    }
}

impl Writing {
    fn chunk_size(&self) -> usize {
        1 << self.chunk_size_log2
    }

    async fn begun(&self, context: &Context) -> Result<Beginning, Error> {
        // What has no canonical form is refused before a data key is made.
        canonical(context)?;
        let (first, others) = self.keys.split_first().ok_or_else(no_key)?;
        let made = first.generate(context).await?;
        let mut wrapped_keys = vec![first.wrapped(made.ciphertext, made.key, self.name_keys)];
        for key in others {
            wrapped_keys.push(key.wrap(&made.plaintext, context, self.name_keys).await?);
        }
        let header = Header::new(self.chunk_size_log2, context, self.store_context, wrapped_keys)?;
        let keys = MessageKeys::new(&made.plaintext, self.chunk_size_log2, &header.context_digest)?;
        Ok(Beginning { head: head(&header, &keys)?, keys })
    }
}

fn head(header: &Header, keys: &MessageKeys) -> Result<Vec<u8>, Error> {
    let mut head = header.to_bytes()?;
    let tag = keys.header_tag(&head);
    head.extend_from_slice(&tag);
    Ok(head)
}

/// The refusal within an error of reading from memory, where nothing else can go wrong.
fn own(error: io::Error) -> Error {
    Error::within(&error).cloned().unwrap_or_else(altered)
}

fn no_key() -> Error {
    Error::invalid("FIELD_REQUIRED", "name at least one key", "keys")
}

/// What an [`EncryptionClient`] is made of.
pub struct Builder {
    calls: Arc<dyn KeyCalls>,
    names: Vec<String>,
    keys: Vec<MeshKey>,
    store_context: bool,
    name_keys: bool,
    chunk_size_log2: u8,
    cache: Option<DataKeyCache>,
}

impl Builder {
    /// One more key that messages are under, and that is accepted: its id, `alias/…`, or full name.
    #[must_use]
    pub fn key(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// One more key, behind those that are named, which may be of another mesh.
    #[must_use]
    pub fn mesh_key(mut self, key: MeshKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Keeps data keys for messages to come; without, each message asks the mesh.
    #[must_use]
    pub fn cache(mut self, limits: DataKeyCache) -> Self {
        self.cache = Some(limits);
        self
    }

    /// Writes the encryption context itself into messages, so that readers need not know it; else its digest.
    #[must_use]
    pub fn store_context(mut self, store: bool) -> Self {
        self.store_context = store;
        self
    }

    /// Whether messages name their keys, so that a reader of several asks for the right one; they do by default.
    #[must_use]
    pub fn name_keys(mut self, name: bool) -> Self {
        self.name_keys = name;
        self
    }

    /// The size of chunks as a power of two, 6 to 20; by default 16, which is 64 KiB.
    #[must_use]
    pub fn chunk_size_log2(mut self, log2: u8) -> Self {
        self.chunk_size_log2 = log2;
        self
    }

    /// The client. Fails with `FIELD_REQUIRED` without a key, `FIELD_INVALID` with more than 16.
    pub fn build(self) -> Result<EncryptionClient, Error> {
        let named = self.names.iter().map(|name| MeshKey::new(Arc::clone(&self.calls), name));
        let mut keys = named.collect::<Result<Vec<_>, _>>()?;
        keys.extend(self.keys);
        if keys.is_empty() {
            return Err(no_key());
        }
        if keys.len() > MAX_WRAPPED_KEYS {
            return Err(Error::invalid("FIELD_INVALID", "a message is under at most 16 keys", "keys"));
        }
        if !CHUNK_SIZE_LOG2.contains(&self.chunk_size_log2) {
            return Err(Error::invalid("FIELD_INVALID", "chunks have 2^6 to 2^20 bytes", "chunk_size_log2"));
        }
        let rooms = |limits| Rooms { writing: Room::new(limits), reading: Room::new(limits) };
        let writing = Writing {
            keys,
            store_context: self.store_context,
            name_keys: self.name_keys,
            chunk_size_log2: self.chunk_size_log2,
        };
        Ok(EncryptionClient { writing: Arc::new(writing), rooms: self.cache.map(rooms) })
    }
}
