//! Events on their way into the audit log, and the answers that wait for them: what can be sent is sent here, in groups,
//! and an answer leaves when the log has said that its events are durable. Everything else is Python's: what could not
//! be sent is given back, with the reason, and nothing is taken while there is no connection.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use pyo3::prelude::*;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::call::{Call, Outcome};
use crate::client::{Failed, Remote, Terms};
use crate::framing::prefix;
use crate::queue::{Bounds, Item, Queue};
use crate::tls::Files;

/// Whoever has less time left is not sent any more.
const NO_TIME: Duration = Duration::from_millis(10);
const TERMS: Terms = Terms { answer_bytes: 1 << 20, keepalive: Duration::from_secs(10), while_idle: true };

/// An answer that leaves once the events of its call are durable.
pub struct Ready {
    /// The call.
    pub call: Arc<Call>,
    /// How it ends then.
    pub outcome: Outcome,
}

/// The events of one call.
pub struct Entry {
    /// A request to append them, as a serialized message: those of several calls, one after another, are the request to
    /// append all.
    pub request: Bytes,
    /// How many events it holds.
    pub events: usize,
    /// With what waits for it, in bytes.
    pub held: usize,
    /// Until when they have to be durable.
    pub deadline: Instant,
    /// What stands for them in Python.
    pub python: Py<PyAny>,
    /// Without one, Python is told.
    pub ready: Option<Ready>,
}

impl Item for Entry {
    fn events(&self) -> usize {
        self.events
    }

    fn size(&self) -> usize {
        self.request.len()
    }

    fn held(&self) -> usize {
        self.held
    }
}

/// Python's side.
pub trait Told: Send + Sync {
    /// The events of these calls are durable.
    fn settled(&self, py: Python<'_>, all: Vec<Py<PyAny>>);
    /// These could not be appended because of that, or were not sent.
    fn given_back(&self, py: Python<'_>, all: Vec<Py<PyAny>>, why: Option<Failed>);
}

#[derive(Default)]
struct State {
    queue: Queue<Entry>,
    /// The number of the connection that takes events.
    open: Option<u64>,
    /// The same of the one that is being made.
    opening: Option<u64>,
    /// Where that connection goes, and by which files.
    target: Option<(String, Arc<ClientConfig>)>,
    last: u64,
    /// Groups that were sent, or whose entries are being given back.
    under_way: usize,
    is_stopped: bool,
}

/// The way into the log.
pub struct Appends {
    path: String,
    groups_at_once: usize,
    files: Files<ClientConfig>,
    told: Box<dyn Told>,
    runtime: Handle,
    state: Mutex<State>,
    wake: Notify,
    has_arrived: Condvar,
}

/// What Python is told of a group.
enum What {
    Settled,
    GivenBack(Option<Failed>),
}

enum Next {
    Group(Vec<Entry>),
    Nothing,
    Over,
}

impl Appends {
    /// Nothing is connected yet. `path` is the method's, and so many groups are under way at once.
    pub fn new(
        path: String,
        bounds: Bounds,
        groups_at_once: usize,
        files: Files<ClientConfig>,
        told: Box<dyn Told>,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            path,
            groups_at_once,
            files,
            told,
            runtime,
            state: Mutex::new(State { queue: Queue::new(bounds), ..State::default() }),
            wake: Notify::new(),
            has_arrived: Condvar::new(),
        })
    }

    /// Connects to an address, unless it is or does so already, by the files that there are now.
    pub fn open(self: &Arc<Self>, address: &str) {
        let tls = self.files.current();
        let mut state = self.lock();
        let same = state.target.as_ref().is_some_and(|(to, by)| to == address && Arc::ptr_eq(by, &tls));
        if state.is_stopped || state.opening.is_some() || (same && state.open.is_some()) {
            return;
        }
        state.last += 1;
        state.opening = Some(state.last);
        state.target = Some((address.to_owned(), tls.clone()));
        self.runtime.spawn(self.clone().connect(state.last, address.to_owned(), tls));
    }

    /// Whether it takes events.
    pub fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Has events sent. Answers them when that is not possible now, or too many wait already.
    pub fn append(&self, payer: &str, entry: Entry) -> Result<(), Box<Entry>> {
        let mut state = self.lock();
        if state.open.is_none() {
            return Err(Box::new(entry));
        }
        state.queue.put(payer, entry)?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes no more events until it is opened again. Answers those that have not been sent, in groups.
    pub fn close(&self) -> Vec<Vec<Entry>> {
        let mut state = self.lock();
        state.open = None;
        self.wake.notify_one();
        state.queue.clear()
    }

    /// The same for good; waits that long for what has been sent.
    pub fn stop(&self, patience: Duration) -> Vec<Vec<Entry>> {
        self.lock().is_stopped = true;
        let left = self.close();
        let waited = self.has_arrived.wait_timeout_while(self.lock(), patience, |state| state.under_way > 0);
        drop(waited);
        left
    }

    async fn connect(self: Arc<Self>, number: u64, address: String, tls: Arc<ClientConfig>) {
        let connected = Remote::connect(&address, tls, TERMS).await;
        let is_wanted = self.connected(number, connected.is_ok());
        // Without one, Python will ask for it again.
        if let (Ok((remote, running)), true) = (connected, is_wanted) {
            // Whatever sends on the connection before this one.
            self.wake.notify_one();
            self.runtime.spawn(self.clone().send_all(number, remote));
            running.await;
            self.lost(number);
        }
    }

    fn connected(&self, number: u64, is_so: bool) -> bool {
        let mut state = self.lock();
        state.opening = None;
        let is_wanted = is_so && !state.is_stopped;
        if is_wanted {
            state.open = Some(number);
        }
        is_wanted
    }

    /// A connection has ended. What was sent on it fails by itself.
    fn lost(self: &Arc<Self>, number: u64) {
        let mut state = self.lock();
        if state.open == Some(number) {
            state.open = None;
            for group in state.queue.clear() {
                self.give_back(&mut state, group);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    async fn send_all(self: Arc<Self>, number: u64, remote: Remote) {
        let places = Arc::new(Semaphore::new(self.groups_at_once));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let group = loop {
                match self.next(number) {
                    Next::Group(group) => break group,
                    Next::Nothing => self.wake.notified().await,
                    Next::Over => {
                        // It may have been woken in place of the one that follows.
                        self.wake.notify_one();
                        return;
                    }
                }
            };
            self.runtime.spawn(self.clone().send(remote.clone(), group, place));
        }
    }

    fn next(self: &Arc<Self>, number: u64) -> Next {
        let mut state = self.lock();
        if state.open != Some(number) {
            return Next::Over;
        }
        let soon = Instant::now() + NO_TIME;
        let (late, group): (Vec<_>, Vec<_>) = state.queue.group().into_iter().partition(|one| one.deadline <= soon);
        // Why, Python says.
        self.give_back(&mut state, late);
        if group.is_empty() {
            return Next::Nothing;
        }
        state.under_way += 1;
        Next::Group(group)
    }

    async fn send(self: Arc<Self>, remote: Remote, group: Vec<Entry>, place: OwnedSemaphorePermit) {
        let deadline = group.iter().map(|one| one.deadline).min().unwrap_or_else(Instant::now);
        let result = remote.call(&self.path, HeaderMap::new(), joined(&group), deadline).await;
        // The next group leaves before answers are told.
        drop(place);
        match result {
            Ok(_) => {
                let told = group.into_iter().filter_map(|entry| {
                    let Some(ready) = entry.ready else { return Some(entry.python) };
                    ready.call.decide(ready.outcome);
                    None
                });
                let told: Vec<_> = told.collect();
                if told.is_empty() {
                    self.arrived(&mut self.lock());
                } else {
                    self.tell(told, What::Settled);
                }
            }
            Err(failed) => self.tell(pythons(group), What::GivenBack(Some(failed))),
        }
    }

    fn give_back(self: &Arc<Self>, state: &mut State, group: Vec<Entry>) {
        if !group.is_empty() {
            state.under_way += 1;
            self.tell(pythons(group), What::GivenBack(None));
        }
    }

    /// Has Python told, in a thread that may wait for its lock.
    fn tell(self: &Arc<Self>, all: Vec<Py<PyAny>>, what: What) {
        let me = self.clone();
        self.runtime.spawn_blocking(move || {
            Python::attach(|py| match what {
                What::Settled => me.told.settled(py, all),
                What::GivenBack(why) => me.told.given_back(py, all, why),
            });
            me.arrived(&mut me.lock());
        });
    }

    fn arrived(&self, state: &mut State) {
        state.under_way -= 1;
        if state.under_way == 0 {
            self.has_arrived.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for calls in Python.
pub fn pythons(group: Vec<Entry>) -> Vec<Py<PyAny>> {
    group.into_iter().map(|entry| entry.python).collect()
}

/// One request, framed, of those of several calls.
fn joined(group: &[Entry]) -> Bytes {
    let length = group.iter().map(|one| one.request.len()).sum();
    let mut request = Vec::from(prefix(length));
    request.reserve_exact(length);
    for one in group {
        request.extend_from_slice(&one.request);
    }
    request.into()
}
