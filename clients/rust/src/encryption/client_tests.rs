//! What an application meets: keys, contexts, streams and the cache, with a mesh that wraps by remembering.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tonic::Code;
use zeroize::Zeroizing;

use super::{DataKeyCache, EncryptionClient, MeshKey};
use crate::{Context, DataKey, Decrypted, Encrypted, Error, KeyCalls};

/// A data key, and the key that it is under.
type Wrapped = (String, Vec<u8>);

/// A mesh that wraps by remembering.
#[derive(Default)]
struct Mesh {
    wrapped: Mutex<HashMap<Vec<u8>, Wrapped>>,
    calls: AtomicUsize,
    refuses_with: Mutex<Option<(&'static str, Code)>>,
}

impl Mesh {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn refuse_with(&self, reason: &'static str, code: Code) {
        *self.refuses_with.lock().unwrap() = Some((reason, code));
    }

    fn answer_again(&self) {
        *self.refuses_with.lock().unwrap() = None;
    }

    /// Counts a call; others may go on meanwhile.
    async fn called(&self) -> Result<usize, Error> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        match *self.refuses_with.lock().unwrap() {
            Some((reason, code)) => Err(Error::new(reason, "refused", code, "")),
            None => Ok(number),
        }
    }

    fn wrap(&self, number: usize, key: &str, data_key: &[u8]) -> Vec<u8> {
        let ciphertext = number.to_be_bytes().to_vec();
        self.wrapped.lock().unwrap().insert(ciphertext.clone(), (key.to_owned(), data_key.to_vec()));
        ciphertext
    }
}

#[async_trait]
impl KeyCalls for Arc<Mesh> {
    async fn generate_data_key(&self, key: &str, bytes: u32, _: &Context) -> Result<DataKey, Error> {
        let number = self.called().await?;
        let plaintext = Zeroizing::new(vec![u8::try_from(number).unwrap(); bytes.try_into().unwrap()]);
        Ok(DataKey { ciphertext: self.wrap(number, key, &plaintext), plaintext, key: key.to_owned() })
    }

    async fn encrypt(&self, key: &str, plaintext: &[u8], _: &Context) -> Result<Encrypted, Error> {
        let number = self.called().await?;
        Ok(Encrypted { ciphertext: self.wrap(number, key, plaintext), key: key.to_owned() })
    }

    async fn decrypt(&self, ciphertext: &[u8], _: &Context, _: &str) -> Result<Decrypted, Error> {
        self.called().await?;
        let (key, plaintext) = self.wrapped.lock().unwrap()[ciphertext].clone();
        Ok(Decrypted { plaintext: Zeroizing::new(plaintext), key })
    }

    fn key_name(&self, name: &str) -> Result<String, Error> {
        Ok(format!("accounts/main/keys/{name}"))
    }
}

fn tenant(id: &str) -> Context {
    Context::from([("tenant".into(), id.into())])
}

fn client(mesh: &Arc<Mesh>, keys: &[&str]) -> EncryptionClient {
    let builder = keys.iter().fold(EncryptionClient::builder(Arc::clone(mesh)), |builder, key| builder.key(key));
    builder.chunk_size_log2(6).build().unwrap()
}

fn caching(mesh: &Arc<Mesh>, limits: DataKeyCache) -> EncryptionClient {
    EncryptionClient::builder(Arc::clone(mesh)).key("payments").cache(limits).build().unwrap()
}

async fn written(client: &EncryptionClient, content: &[u8]) -> Vec<u8> {
    let mut writer = client.encrypting_writer(Vec::new(), &tenant("a")).await.unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn reason<T>(outcome: Result<T, Error>) -> String {
    outcome.err().map(|error| error.reason).unwrap_or_default()
}

#[tokio::test]
async fn a_message_of_any_size_comes_back() {
    let client = client(&Arc::default(), &["payments"]);
    for size in [0, 1, 63, 64, 65, 128, 1000] {
        let content = vec![7; size];
        let message = client.encrypt(&content, &tenant("a")).await.unwrap();
        let streamed = written(&client, &content).await;
        assert_eq!(message.len(), streamed.len());
        assert_eq!(client.decrypt(&streamed, Some(&tenant("a"))).await.unwrap(), content);
        let mut read = Vec::new();
        let mut reader = client.decrypting_reader(message.as_slice(), Some(&tenant("a"))).await.unwrap();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
    }
}

#[tokio::test]
async fn a_message_is_read_anywhere() {
    let client = client(&Arc::default(), &["payments"]);
    let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let message = client.encrypt(&content, &tenant("a")).await.unwrap();
    let behind = [b"before".as_slice(), &message].concat();
    let mut input = Cursor::new(behind);
    input.set_position(6);
    let mut file = client.decrypting_file(input, Some(&tenant("a"))).await.unwrap();
    assert_eq!(file.size(), 1000);
    for (place, size) in [(999, 1), (0, 64), (63, 2), (500, 500), (1000, 0), (2000, 0)] {
        file.seek(SeekFrom::Start(place)).unwrap();
        let mut read = Vec::new();
        (&mut file).take(size).read_to_end(&mut read).unwrap();
        assert_eq!(read, content[content.len().min(place as usize)..][..size as usize]);
    }
    assert_eq!(file.seek(SeekFrom::End(-10)).unwrap(), 990);
    assert_eq!(file.seek(SeekFrom::Current(5)).unwrap(), 995);
    assert!(file.seek(SeekFrom::Current(-996)).is_err());
    assert_eq!(file.stream_position().unwrap(), 995);
}

#[tokio::test]
async fn any_of_several_keys_opens_a_message_and_no_other() {
    let mesh = Arc::default();
    let message = client(&mesh, &["payments", "vault"]).encrypt(b"content", &tenant("a")).await.unwrap();
    for key in ["payments", "vault"] {
        assert_eq!(client(&mesh, &[key]).decrypt(&message, Some(&tenant("a"))).await.unwrap(), b"content");
    }
    let (other, calls) = (client(&mesh, &["other"]), mesh.calls());
    assert_eq!(reason(other.decrypt(&message, Some(&tenant("a"))).await), "KEY_NOT_ACCEPTED");
    assert_eq!(mesh.calls(), calls);
    let any = [MeshKey::any(Arc::new(Arc::clone(&mesh)))];
    assert_eq!(other.decrypt_under(&message, Some(&tenant("a")), &any).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_rewrapped_message_is_under_the_other_keys_alone() {
    let mesh = Arc::default();
    let payments = client(&mesh, &["payments"]);
    let message = payments.encrypt(b"content", &tenant("a")).await.unwrap();
    let vault = [MeshKey::new(Arc::new(Arc::clone(&mesh)), "vault").unwrap()];
    let rewrapped = payments.rewrap(&message, &vault, Some(&tenant("a"))).await.unwrap();
    assert_eq!(client(&mesh, &["vault"]).decrypt(&rewrapped, Some(&tenant("a"))).await.unwrap(), b"content");
    assert_eq!(reason(payments.decrypt(&rewrapped, Some(&tenant("a"))).await), "KEY_NOT_ACCEPTED");
    assert_eq!(reason(payments.rewrap(&rewrapped, &vault, Some(&tenant("a"))).await), "KEY_NOT_ACCEPTED");
    let again = payments.rewrap_under(&rewrapped, &vault, Some(&tenant("a")), &vault).await.unwrap();
    assert_eq!(client(&mesh, &["vault"]).decrypt(&again, Some(&tenant("a"))).await.unwrap(), b"content");
}

/// It takes a few bytes, and then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(data.len()).ok_or_else(|| io::Error::other("full"))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_could_not_be_written_gets_no_end() {
    let client = client(&Arc::default(), &["payments"]);
    let mut writer = client.encrypting_writer(Full(300), &tenant("a")).await.unwrap();
    assert!(writer.write_all(&[7; 1000]).is_err());
    assert!(writer.finish().is_err());
}

#[tokio::test]
async fn what_is_configured_wrong_is_refused() {
    let builder = || EncryptionClient::builder(Arc::<Mesh>::default());
    assert_eq!(reason(builder().build()), "FIELD_REQUIRED");
    assert_eq!(reason(builder().key("").build()), "FIELD_REQUIRED");
    assert_eq!(reason(builder().key("payments").chunk_size_log2(21).build()), "FIELD_INVALID");
    let many = (0..17).fold(builder(), |builder, number| builder.key(&number.to_string()));
    assert_eq!(reason(many.build()), "FIELD_INVALID");
}

#[tokio::test]
async fn one_call_serves_concurrent_and_later_messages_of_a_context() {
    let mesh = Arc::default();
    let client = caching(&mesh, DataKeyCache::default());
    let context = tenant("a");
    let (one, other) = tokio::join!(client.encrypt(b"one", &context), client.encrypt(b"other", &context));
    client.encrypt(b"later", &context).await.unwrap();
    assert_eq!(mesh.calls(), 1);
    client.decrypt(&one.unwrap(), Some(&context)).await.unwrap();
    client.decrypt(&other.unwrap(), Some(&context)).await.unwrap();
    assert_eq!(mesh.calls(), 2);
    client.encrypt(b"of another context", &tenant("b")).await.unwrap();
    assert_eq!(mesh.calls(), 3);
    client.forget_data_keys();
    client.encrypt(b"later", &context).await.unwrap();
    assert_eq!(mesh.calls(), 4);
}

#[tokio::test]
async fn what_failed_is_not_kept() {
    let mesh = Arc::default();
    let client = caching(&mesh, DataKeyCache::default());
    mesh.refuse_with("UNREACHABLE", Code::Unavailable);
    let refused = client.encrypt(b"content", &tenant("a")).await.unwrap_err();
    assert!(refused.message.contains("strongroom status"), "{refused}");
    mesh.answer_again();
    client.encrypt(b"content", &tenant("a")).await.unwrap();
}

#[tokio::test]
async fn a_data_key_is_replaced_at_its_limits() {
    for limits in [
        DataKeyCache { max_messages: 2, ..DataKeyCache::default() },
        DataKeyCache { max_bytes: 2, ..DataKeyCache::default() },
        DataKeyCache { max_age: Duration::ZERO, max_stale: Duration::ZERO, ..DataKeyCache::default() },
    ] {
        let mesh = Arc::default();
        let client = caching(&mesh, limits);
        for _ in 0..3 {
            client.encrypt(b"1", &tenant("a")).await.unwrap();
        }
        assert!(mesh.calls() > 1, "{limits:?}");
    }
}

#[tokio::test]
async fn what_is_written_as_a_stream_counts() {
    let mesh = Arc::default();
    let client = caching(&mesh, DataKeyCache { max_bytes: 1000, ..DataKeyCache::default() });
    written(&client, &[7; 1001]).await;
    client.encrypt(b"1", &tenant("a")).await.unwrap();
    assert_eq!(mesh.calls(), 2);
}

/// Lets what goes on beside come to its end.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

const AGE: Duration = Duration::from_secs(300);
const AHEAD: Duration = Duration::from_secs(30);
const STALE: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);

/// A mesh that has been asked once, and a client whose data key is due.
async fn due() -> (Arc<Mesh>, EncryptionClient) {
    let mesh = Arc::default();
    let client = caching(&mesh, DataKeyCache::default());
    client.encrypt(b"1", &tenant("a")).await.unwrap();
    tokio::time::advance(AGE - AHEAD + SECOND).await;
    (mesh, client)
}

#[tokio::test(start_paused = true)]
async fn a_data_key_in_use_is_replaced_ahead_of_its_end_beside_messages_that_go_on() {
    let (mesh, client) = due().await;
    for _ in 0..3 {
        client.encrypt(b"2", &tenant("a")).await.unwrap();
        assert_eq!(mesh.calls(), 1, "a message waited");
    }
    settled().await;
    assert_eq!(mesh.calls(), 2);
    tokio::time::advance(AHEAD + SECOND).await;
    client.encrypt(b"3", &tenant("a")).await.unwrap();
    assert_eq!(mesh.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_mesh_is_away_a_data_key_is_used_up_to_its_last_limit() {
    let (mesh, client) = due().await;
    mesh.refuse_with("UNREACHABLE", Code::Unavailable);
    client.encrypt(b"2", &tenant("a")).await.unwrap();
    settled().await;
    tokio::time::advance(AHEAD + STALE - SECOND * 3).await;
    client.encrypt(b"3", &tenant("a")).await.unwrap();
    settled().await;
    assert_eq!(mesh.calls(), 3);
    tokio::time::advance(SECOND * 3).await;
    assert_eq!(reason(client.encrypt(b"4", &tenant("a")).await), "UNREACHABLE");
    mesh.answer_again();
    client.encrypt(b"5", &tenant("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_data_key_that_nobody_asked_for_ahead_is_bridged_too() {
    let (mesh, client) = due().await;
    mesh.refuse_with("UNREACHABLE", Code::Unavailable);
    tokio::time::advance(AHEAD).await;
    client.encrypt(b"2", &tenant("a")).await.unwrap();
    assert_eq!(mesh.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_mesh_refuses_is_never_bridged() {
    let (mesh, client) = due().await;
    mesh.refuse_with("KEY_DISABLED", Code::FailedPrecondition);
    client.encrypt(b"2", &tenant("a")).await.unwrap();
    settled().await;
    assert_eq!(reason(client.encrypt(b"3", &tenant("a")).await), "KEY_DISABLED");
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_all_is_forgotten_is_not_kept() {
    let (mesh, client) = due().await;
    client.encrypt(b"2", &tenant("a")).await.unwrap();
    client.forget_data_keys();
    settled().await;
    let calls = mesh.calls();
    client.encrypt(b"3", &tenant("a")).await.unwrap();
    assert_eq!(mesh.calls(), calls + 1);
}

#[tokio::test]
async fn of_what_is_wrong_with_a_context_the_same_is_told_as_in_every_language() {
    let mesh = Arc::default();
    let payments = client(&mesh, &["payments"]);
    let both: Context = [("", "a".to_owned()), ("b", "a".repeat(8192))].map(|(key, value)| (key.into(), value)).into();
    assert_eq!(reason(payments.encrypt(b"content", &both).await), "FIELD_INVALID");
    let many: Context =
        (0..2049).map(|number| (if number == 0 { String::new() } else { number.to_string() }, String::new())).collect();
    assert_eq!(reason(payments.encrypt(b"content", &many).await), "FIELD_TOO_LARGE");
    assert_eq!(mesh.calls(), 0);
}
