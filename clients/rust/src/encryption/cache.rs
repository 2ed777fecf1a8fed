//! Data keys that are kept for messages to come.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::Error;

const MAX_ENTRIES: usize = 1000;
/// How long after a failure the mesh is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Times beyond it are as good as for ever.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// How long data keys are kept for messages to come, for each encryption context, in both directions; whichever limit is
/// reached first.
///
/// A data key in use is replaced ahead of its end, beside messages that go on. While the mesh cannot be reached, it is used
/// up to `max_stale` longer; what the mesh refuses, since the key is disabled or a permission is gone, is never bridged.
/// So a revocation takes effect here after `max_age`, and after `max_age` and `max_stale` in a process that cannot reach
/// the mesh: choose them for what you can accept. [`super::EncryptionClient::forget_data_keys`] ends it at once.
#[derive(Debug, Clone, Copy)]
pub struct DataKeyCache {
    /// For how long a data key is used: 5 minutes by default.
    pub max_age: Duration,
    /// How many messages are written, or read, with one: a million by default.
    pub max_messages: u64,
    /// How many bytes of content are written, or read, with one: 1 TiB by default. A message that is read as a stream
    /// counts as one without content.
    pub max_bytes: u64,
    /// How long before its end one that is in use is replaced: 30 seconds by default, and half of `max_age` at most.
    pub refresh_ahead: Duration,
    /// How long beyond `max_age` one is used while the mesh cannot be reached: 2 minutes by default.
    pub max_stale: Duration,
}

impl Default for DataKeyCache {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_messages: 1_000_000,
            max_bytes: 1 << 40,
            refresh_ahead: Duration::from_secs(30),
            max_stale: Duration::from_secs(120),
        }
    }
}

/// What one call to the mesh made.
pub(super) struct Kept<V> {
    pub(super) value: Arc<V>,
    pub(super) spent: Arc<Spent>,
}

impl<V> Kept<V> {
    fn new(value: V) -> Self {
        Self { value: Arc::new(value), spent: Arc::default() }
    }
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), spent: Arc::clone(&self.spent) }
    }
}

/// What a data key was used for.
#[derive(Default)]
pub(super) struct Spent {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Spent {
    /// Counts content of a message whose size nobody knew when it began.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Entry<V> {
    kept: Kept<V>,
    refresh_at: Instant,
    expires_at: Instant,
    stale_until: Instant,
}

impl<V> Entry<V> {
    fn new(kept: Kept<V>, limits: &DataKeyCache) -> Self {
        let max_age = limits.max_age.min(LONGEST);
        let expires_at = Instant::now() + max_age;
        Self {
            kept,
            refresh_at: expires_at - limits.refresh_ahead.min(max_age / 2),
            expires_at,
            stale_until: expires_at + limits.max_stale.min(LONGEST),
        }
    }

    /// Uses it for a message of `bytes` bytes; false where it may serve no other.
    fn take(&self, bytes: u64, limits: &DataKeyCache) -> bool {
        let spent = &self.kept.spent;
        let all = spent.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if spent.messages.load(Ordering::Relaxed) >= limits.max_messages || all > limits.max_bytes {
            return false;
        }
        spent.messages.fetch_add(1, Ordering::Relaxed);
        spent.add(bytes);
        true
    }

    /// Uses it beyond its age, and asks for another one now and then.
    fn prolong(&mut self) {
        self.refresh_at = Instant::now() + RETRY_AFTER;
        self.expires_at = self.stale_until;
    }
}

/// A call that is on its way, and what it answered.
type Call<V> = OnceCell<Result<Kept<V>, Error>>;

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Those who wait for a call hold it.
    calls: HashMap<K, Weak<Call<V>>>,
}

impl<K: Hash + Eq + Clone, V> State<K, V> {
    fn keep(&mut self, lookup: &K, entry: Entry<V>) -> &Entry<V> {
        if self.entries.len() >= MAX_ENTRIES
            && !self.entries.contains_key(lookup)
            && let Some(eldest) = self.entries.iter().min_by_key(|(_, one)| one.expires_at).map(|(key, _)| key.clone())
        {
            self.entries.remove(&eldest);
        }
        self.entries.entry(lookup.clone()).insert_entry(entry).into_mut()
    }
}

/// What is kept for one direction; clones share it.
pub(super) struct Room<K, V> {
    limits: DataKeyCache,
    state: Arc<Mutex<State<K, V>>>,
}

impl<K, V> Clone for Room<K, V> {
    fn clone(&self) -> Self {
        Self { limits: self.limits, state: Arc::clone(&self.state) }
    }
}

impl<K, V> Room<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(limits: DataKeyCache) -> Self {
        Self { limits, state: Arc::new(Mutex::new(State { entries: HashMap::new(), calls: HashMap::new() })) }
    }

    /// Forgets everything, also what is on its way: who waits for that uses it, and it is not kept.
    pub(super) fn clear(&self) {
        let mut state = self.locked();
        state.entries.clear();
        state.calls.clear();
    }

    /// What is kept and may serve a message of `bytes` bytes, or else what `fetch` answers, kept from now on. Concurrent
    /// messages that lack the same one make one call.
    pub(super) async fn get<F>(&self, lookup: &K, bytes: u64, fetch: impl Fn() -> F) -> Result<Kept<V>, Error>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        if bytes > self.limits.max_bytes {
            return fetch().await.map(Kept::new);
        }
        loop {
            if let Some(kept) = self.at_hand(lookup, bytes, &fetch) {
                return Ok(kept);
            }
            let mut is_mine = false;
            let call = self.joined(lookup);
            let answer = call.get_or_init(|| {
                is_mine = true;
                self.asked(lookup, &call, fetch(), Some(bytes))
            });
            let kept = answer.await.clone()?;
            // What another message asked for may be used up by now.
            if is_mine {
                return Ok(kept);
            }
        }
    }

    fn at_hand<F>(&self, lookup: &K, bytes: u64, fetch: &impl Fn() -> F) -> Option<Kept<V>>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let state = self.locked();
        let entry = state.entries.get(lookup)?;
        let now = Instant::now();
        if now >= entry.expires_at || !entry.take(bytes, &self.limits) {
            return None;
        }
        let (kept, is_due) = (entry.kept.clone(), now >= entry.refresh_at);
        drop(state);
        if is_due {
            self.refresh_beside(lookup, fetch);
        }
        Some(kept)
    }

    fn refresh_beside<F>(&self, lookup: &K, fetch: &impl Fn() -> F)
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.locked().calls.get(lookup).is_some_and(|call| call.strong_count() > 0) {
            return;
        }
        let (room, lookup, call, fetched) = (self.clone(), lookup.clone(), self.joined(lookup), fetch());
        runtime.spawn(async move {
            call.get_or_init(|| room.asked(&lookup, &call, fetched, None)).await;
        });
    }

    /// The call for `lookup` that is on its way, or one that is to be made.
    fn joined(&self, lookup: &K) -> Arc<Call<V>> {
        let mut state = self.locked();
        if let Some(call) = state.calls.get(lookup).and_then(Weak::upgrade) {
            return call;
        }
        state.calls.retain(|_, call| call.strong_count() > 0);
        let call = Arc::default();
        state.calls.insert(lookup.clone(), Arc::downgrade(&call));
        call
    }

    /// What the mesh answers, for a message of `bytes` bytes if one waits; while the mesh is away what is kept, as long
    /// as that may be.
    async fn asked(
        &self,
        lookup: &K,
        call: &Arc<Call<V>>,
        fetched: impl Future<Output = Result<V, Error>>,
        bytes: Option<u64>,
    ) -> Result<Kept<V>, Error> {
        let outcome = fetched.await;
        let mut state = self.locked();
        let is_current = state.calls.get(lookup).is_some_and(|one| one.as_ptr() == Arc::as_ptr(call));
        if !is_current {
            return outcome.map(Kept::new);
        }
        state.calls.remove(lookup);
        match outcome {
            Ok(value) => {
                let entry = state.keep(lookup, Entry::new(Kept::new(value), &self.limits));
                bytes.map(|bytes| entry.take(bytes, &self.limits));
                Ok(entry.kept.clone())
            }
            Err(error) if error.is_away() => match state.entries.get_mut(lookup) {
                Some(entry)
                    if Instant::now() < entry.stale_until
                        && bytes.is_none_or(|bytes| entry.take(bytes, &self.limits)) =>
                {
                    entry.prolong();
                    Ok(entry.kept.clone())
                }
                _ => Err(error),
            },
            Err(error) => {
                state.entries.remove(lookup);
                Err(error)
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
