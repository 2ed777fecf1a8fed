//! Every way to read a message gives the outcome of the vectors that all languages share.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tonic::Code;
use zeroize::Zeroizing;

use super::body::{self, Layout, MessageKeys};
use super::client::EncryptionClient;
use super::header::{Header, WrappedKey};
use super::streams::EncryptingWriter;
use super::{DataKeyCache, MeshKey};
use crate::{Context, DataKey, Decrypted, Encrypted, Error, KeyCalls};

const KEY: &str = "accounts/main/keys/payments";

fn vectors(kind: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/encrypted_message.json");
    let mut all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    serde_json::from_value(all[kind].take()).unwrap()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap()
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(vector, field)).unwrap()
}

fn context(pairs: &Value) -> Option<Context> {
    let pairs = pairs.as_object()?.iter();
    Some(pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect())
}

fn accepted(vector: &Value) -> Vec<MeshKey> {
    let keys = vector["accepted"].as_array().unwrap().iter();
    let key = |one: &Value| {
        let mesh = text(one, "mesh");
        let calls = Arc::new(Answering { answers: vector["answers"].clone(), mesh: mesh.to_owned() });
        let key = text(one, "key");
        let key = if key.is_empty() { MeshKey::any(calls) } else { MeshKey::new(calls, key).unwrap() };
        key.of_mesh(mesh)
    };
    keys.map(key).collect()
}

/// What a mesh answers, by a vector.
struct Answering {
    answers: Value,
    mesh: String,
}

fn refused(reason: &str, code: Code) -> Error {
    Error::new(reason, "refused", code, "")
}

fn code(name: Option<&str>) -> Code {
    match name {
        Some("UNAVAILABLE") => Code::Unavailable,
        Some("DEADLINE_EXCEEDED") => Code::DeadlineExceeded,
        Some("RESOURCE_EXHAUSTED") => Code::ResourceExhausted,
        _ => Code::InvalidArgument,
    }
}

#[async_trait]
impl KeyCalls for Answering {
    async fn generate_data_key(&self, _: &str, _: u32, _: &Context) -> Result<DataKey, Error> {
        unimplemented!()
    }

    async fn encrypt(&self, _: &str, _: &[u8], _: &Context) -> Result<Encrypted, Error> {
        unimplemented!()
    }

    async fn decrypt(&self, ciphertext: &[u8], given: &Context, key: &str) -> Result<Decrypted, Error> {
        let asked = hex::encode(ciphertext);
        let found = self
            .answers
            .as_array()
            .unwrap()
            .iter()
            .find(|answer| text(answer, "mesh") == self.mesh && text(answer, "encrypted_data_key") == asked);
        let answer = found.ok_or_else(|| refused("CIPHERTEXT_INVALID", Code::InvalidArgument))?;
        if let Some(reason) = answer["refused_with"].as_str() {
            return Err(refused(reason, code(answer["code"].as_str())));
        }
        if ![text(answer, "key"), text(answer, "alias"), ""].contains(&key) {
            return Err(refused("KEY_MISMATCH", Code::InvalidArgument));
        }
        if context(&answer["context"]).as_ref() != Some(given) {
            return Err(refused("CIPHERTEXT_INVALID", Code::InvalidArgument));
        }
        Ok(Decrypted { plaintext: Zeroizing::new(bytes(answer, "data_key")), key: text(answer, "key").to_owned() })
    }
}

/// It gives fewer bytes than it is asked for.
struct BySeven<'a>(&'a [u8]);

impl Read for BySeven<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = into.len().min(7);
        self.0.read(&mut into[..size])
    }
}

#[derive(Clone, Copy)]
enum Way {
    AtOnce,
    TwiceWithACache,
    FromAStream,
    FromAFile,
}

const WAYS: [Way; 4] = [Way::AtOnce, Way::TwiceWithACache, Way::FromAStream, Way::FromAFile];

fn client(cache: Option<DataKeyCache>) -> EncryptionClient {
    let nobody = Answering { answers: Value::Array(Vec::new()), mesh: String::new() };
    let builder = EncryptionClient::builder(nobody).key(KEY);
    cache.into_iter().fold(builder, super::Builder::cache).build().unwrap()
}

async fn read(way: Way, message: &[u8], vector: &Value, keys: &[MeshKey]) -> Result<Vec<u8>, String> {
    let context = context(&vector["context"]);
    let context = context.as_ref();
    match way {
        Way::AtOnce => client(None).decrypt_under(message, context, keys).await.map_err(|error| error.reason),
        Way::TwiceWithACache => {
            let client = client(Some(DataKeyCache::default()));
            client.decrypt_under(message, context, keys).await.map_err(|error| error.reason)?;
            client.decrypt_under(message, context, keys).await.map_err(|error| error.reason)
        }
        Way::FromAStream => {
            let read = async {
                let client = client(None);
                let mut reader = client.decrypting_reader_under(BySeven(message), context, keys).await?;
                let mut content = Vec::new();
                reader.read_to_end(&mut content)?;
                Ok(content)
            };
            read.await.map_err(|error: io::Error| Error::within(&error).unwrap().reason.clone())
        }
        Way::FromAFile => {
            let read = async {
                let client = client(None);
                let mut file = client.decrypting_file_under(Cursor::new(message), context, keys).await?;
                let mut content = vec![0; usize::try_from(file.size()).unwrap()];
                let middle = content.len() / 2;
                file.seek(SeekFrom::Start(middle as u64))?;
                file.read_exact(&mut content[middle..])?;
                file.rewind()?;
                file.read_exact(&mut content[..middle])?;
                Ok(content)
            };
            read.await.map_err(|error: io::Error| Error::within(&error).unwrap().reason.clone())
        }
    }
}

#[tokio::test]
async fn every_valid_message_is_read() {
    for vector in vectors("valid") {
        for way in WAYS {
            let content = read(way, &bytes(&vector, "message"), &vector, &accepted(&vector)).await;
            assert_eq!(content, Ok(bytes(&vector, "content")), "{}", text(&vector, "name"));
        }
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    for vector in vectors("refused") {
        for way in WAYS {
            let outcome = read(way, &bytes(&vector, "message"), &vector, &accepted(&vector)).await;
            assert_eq!(outcome, Err(text(&vector, "refused_with").to_owned()), "{}", text(&vector, "name"));
        }
    }
}

fn runs(vector: &Value) -> impl Iterator<Item = (usize, String)> {
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    vector["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(move |run| (number(&run[0])..=number(&run[1])).map(|at| (at, run[2].as_str().unwrap().to_owned())))
}

#[tokio::test]
async fn every_flipped_bit_is_refused() {
    for vector in vectors("flipped") {
        let keys = accepted(&vector);
        let mut message = bytes(&vector, "message");
        for (bit, reason) in runs(&vector) {
            message[bit / 8] ^= 1 << (bit % 8);
            for way in WAYS {
                assert_eq!(read(way, &message, &vector, &keys).await, Err(reason.clone()), "bit {bit}");
            }
            message[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[tokio::test]
async fn every_truncation_is_refused() {
    for vector in vectors("truncated") {
        let keys = accepted(&vector);
        let message = bytes(&vector, "message");
        for (length, reason) in runs(&vector) {
            for way in WAYS {
                assert_eq!(read(way, &message[..length], &vector, &keys).await, Err(reason.clone()), "{length} bytes");
            }
        }
    }
}

#[test]
fn every_valid_message_is_written() {
    for vector in vectors("valid") {
        let wrapped_keys = vector["wrapped_keys"].as_array().unwrap().iter().map(|one| WrappedKey {
            encrypted_data_key: bytes(one, "encrypted_data_key"),
            key: text(one, "key").to_owned(),
            mesh: text(one, "mesh").to_owned(),
        });
        let log2 = u8::try_from(vector["chunk_size_log2"].as_u64().unwrap()).unwrap();
        let pairs = context(&vector["written_context"]).unwrap();
        let whole = text(&vector, "context_form") == "whole";
        let header = Header::new(log2, &pairs, whole, wrapped_keys.collect()).unwrap();
        let mut message = header.to_bytes().unwrap();
        assert_eq!(message, bytes(&vector, "header"));
        let keys = MessageKeys::new(&bytes(&vector, "data_key"), log2, &header.context_digest).unwrap();
        let tag = keys.header_tag(&message);
        assert_eq!(tag.to_vec(), bytes(&vector, "header_tag"));
        let prefix = bytes(&vector, "nonce_prefix").try_into().unwrap();
        assert_eq!(keys.message_key(&prefix).to_vec(), bytes(&vector, "message_key"));
        message.extend_from_slice(&tag);

        let content = bytes(&vector, "content");
        let head = [message.as_slice(), &prefix].concat();
        let cipher = keys.cipher(&prefix).unwrap();
        let mut writer = EncryptingWriter::new(Vec::new(), head, cipher, header.chunk_size(), Arc::default());
        content.chunks(7).for_each(|piece| writer.write_all(piece).unwrap());
        assert_eq!(writer.finish().unwrap(), bytes(&vector, "message"));
        body::seal(&keys, &content, header.chunk_size(), &prefix, &mut message).unwrap();
        assert_eq!(message, bytes(&vector, "message"));
    }
}

#[test]
fn layouts_follow_from_the_length() {
    for vector in vectors("layouts") {
        let chunk_size = 1 << vector["chunk_size_log2"].as_u64().unwrap();
        let layout = Layout::of(vector["body_bytes"].as_u64().unwrap(), chunk_size).map_err(|error| error.reason);
        let expected = vector["refused_with"].as_str().map_or_else(
            || {
                let number = |field: &str| vector[field].as_u64().unwrap();
                Ok(Layout { chunks: number("chunks"), content_bytes: number("content_bytes") })
            },
            |reason| Err(reason.to_owned()),
        );
        assert_eq!(layout, expected, "{vector}");
    }
}

#[test]
fn a_chunk_beyond_the_last_number_is_neither_written_nor_read() {
    let keys = MessageKeys::new(&[0; body::DATA_KEY_BYTES], 6, &[0; 32]).unwrap();
    let cipher = keys.cipher(&[0; body::NONCE_PREFIX_BYTES]).unwrap();
    let last = (1 << 32) - 2;
    let mut sealed = b"a".to_vec();
    let tag = cipher.seal(last, true, &mut sealed).unwrap();
    sealed.extend_from_slice(&tag);
    assert_eq!(cipher.open(last, true, &mut sealed.clone()).unwrap(), 1);
    assert_eq!(cipher.seal(last + 1, true, &mut [0]).unwrap_err().reason, "MESSAGE_TOO_LARGE");
    assert_eq!(cipher.open(last + 1, true, &mut sealed).unwrap_err().reason, "MESSAGE_TOO_LARGE");
}
