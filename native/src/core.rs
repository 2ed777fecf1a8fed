//! What all connections of a listener share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::sync::watch;

use crate::call::Call;
use crate::callers::Callers;
use crate::connection::Peer;
use crate::dismissals::Dismissals;
use crate::places::Places;
use crate::room::Room;
use crate::status::Ending;

const SWEEP: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_millis(500);

/// How much a listener takes on.
#[derive(Clone, Debug, FromPyObject)]
#[pyo3(from_item_all)]
#[allow(missing_docs)]
pub struct Settings {
    pub message_bytes: usize,
    pub header_bytes: u32,
    pub unfinished: usize,
    pub message_seconds: f64,
    pub slow: usize,
    pub streams: u32,
    pub connections: usize,
    pub address_connections: usize,
    pub handshake_seconds: f64,
    pub idle_seconds: f64,
    pub age_seconds: f64,
    pub watches: usize,
    pub exchanges: usize,
}

/// How calls end that no method answers.
#[allow(missing_docs)]
pub struct Endings {
    pub overloaded: Ending,
    pub incomplete: Ending,
    pub stopping: Ending,
    /// The same, where a method may have begun.
    pub stopped: Ending,
    pub malformed: Ending,
    pub missing: Ending,
    /// There is nothing more to say.
    pub fine: Ending,
    pub too_large: Ending,
    pub compressed: Ending,
    pub unknown: Ending,
    pub overdue: Ending,
    pub broken: Ending,
}

/// Streams that last, of which few are open at once.
#[derive(Clone, Copy, Debug)]
pub enum Lasting {
    /// Whoever watches something.
    Watch,
    /// Whoever exchanges message for message.
    Exchange,
}

/// Whose threads answer the calls of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rooms {
    /// The callers' that are known, or the strangers'.
    ByCaller,
    /// Those for requests that authenticate, where the caller is not known.
    Exchanges,
    /// Those for what must be answered while all others wait for something.
    Reserved,
    /// The one for what waits for nothing and costs next to nothing.
    AtOnce,
}

/// One method.
pub struct Method {
    /// Python's function that answers a call.
    pub answer: Py<PyAny>,
    /// Whose threads it takes.
    pub room: Rooms,
    /// Whether its calls last.
    pub lasting: Option<Lasting>,
    /// The SPIFFE ids that it is for, where it is not for all, and how the calls of others end.
    pub only: Option<(HashSet<String>, Ending)>,
}

/// What a listener does with connections and calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// It takes both.
    Serving,
    /// It takes neither, and finishes what it has.
    Draining,
    /// Connections are cut.
    Ended,
}

/// The threads of a listener, each kind its own, so that none can use up another's.
#[allow(missing_docs)]
pub struct Threads {
    pub known: Arc<Room>,
    pub strangers: Arc<Room>,
    pub exchanges: Arc<Room>,
    pub reserved: Arc<Room>,
    pub at_once: Arc<Room>,
}

impl Threads {
    /// All of them.
    pub fn all(&self) -> [&Arc<Room>; 5] {
        [&self.known, &self.strangers, &self.exchanges, &self.reserved, &self.at_once]
    }
}

#[derive(Default)]
struct Open {
    calls: HashMap<u64, Arc<Call>>,
    connections: usize,
    addresses: HashMap<Arc<str>, BTreeMap<u64, Arc<Peer>>>,
}

/// What all connections of a listener share.
pub struct Core {
    /// How much it takes on.
    pub settings: Settings,
    /// How calls end that no method answers.
    pub endings: Endings,
    /// By path, from the start on.
    pub methods: OnceLock<HashMap<String, Arc<Method>>>,
    /// Whose credentials are known.
    pub callers: Callers,
    /// Calls whose message has not come.
    pub unfinished: Places<Arc<Call>>,
    /// Connections that are not made yet.
    pub handshakes: Places<tokio::task::AbortHandle>,
    dismissals: Dismissals,
    threads: Threads,
    watches: Places<Arc<Call>>,
    exchanges: Places<Arc<Call>>,
    open: Mutex<Open>,
    has_closed: Condvar,
    next: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Core {
    /// Nothing is open yet.
    pub fn new(settings: Settings, endings: Endings, threads: Threads) -> Self {
        Self {
            unfinished: Places::new(settings.unfinished),
            handshakes: Places::new((settings.connections / 4).max(16)),
            watches: Places::new(settings.watches),
            exchanges: Places::new(settings.exchanges),
            settings,
            endings,
            methods: OnceLock::new(),
            callers: Callers::default(),
            dismissals: Dismissals::default(),
            threads,
            open: Mutex::new(Open::default()),
            has_closed: Condvar::new(),
            next: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    /// Places for calls that last.
    pub fn lasting(&self, kind: Lasting) -> &Places<Arc<Call>> {
        match kind {
            Lasting::Watch => &self.watches,
            Lasting::Exchange => &self.exchanges,
        }
    }

    /// Which threads answer a call.
    pub fn room(&self, call: &Call) -> &Arc<Room> {
        let known = call.whose.caller.known;
        match call.method.room {
            Rooms::AtOnce => &self.threads.at_once,
            Rooms::Reserved => &self.threads.reserved,
            _ if known => &self.threads.known,
            Rooms::Exchanges => &self.threads.exchanges,
            Rooms::ByCaller => &self.threads.strangers,
        }
    }

    /// The thread for what waits for nothing.
    pub fn at_once(&self) -> &Arc<Room> {
        &self.threads.at_once
    }

    /// A number for whatever comes: higher than all before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a call without an answer, soon.
    pub fn dismiss(self: &Arc<Self>, call: &Arc<Call>, ending: &Ending) {
        let Some(pause) = self.dismissal(&call.whose.caller.group) else {
            call.refuse(ending);
            return;
        };
        if !call.is_open() {
            call.refuse_later(ending, pause);
            return;
        }
        let (core, call, trailers) = (self.clone(), call.clone(), ending.trailers());
        tokio::spawn(async move {
            core.pause(pause).await;
            call.end(trailers);
        });
    }

    /// For how long somebody's next refusal waits. None where too many do.
    pub fn dismissal(&self, group: &Arc<str>) -> Option<Duration> {
        self.dismissals.pause(group, Instant::now())
    }

    /// Waits, but no longer than until the listener drains, which waits for whoever does.
    pub async fn pause(&self, pause: Duration) {
        let mut phases = self.phases();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => {}
        }
    }

    /// Counts a call as open.
    pub fn opened(&self, call: &Arc<Call>) {
        self.lock().calls.insert(call.number, call.clone());
    }

    /// Counts it no more.
    pub fn closed(&self, number: u64) {
        let mut open = self.lock();
        open.calls.remove(&number);
        if open.calls.is_empty() && self.phase() != Phase::Serving {
            self.has_closed.notify_all();
        }
    }

    /// Counts a connection, where there is room for one more from its address. Where there are too many in all, one of
    /// the address that has most gives way: the oldest on which nothing is asked just now, or else the oldest.
    pub fn connected(self: &Arc<Self>, address: &Arc<str>, peer: &Arc<Peer>) -> Option<Connected> {
        let mut open = self.lock();
        let own = open.addresses.get(address).map_or(0, BTreeMap::len);
        if own >= self.settings.address_connections {
            return None;
        }
        if open.connections >= self.settings.connections {
            let greediest =
                open.addresses.values_mut().max_by_key(|held| held.len()).filter(|held| held.len() > own + 1)?;
            let idle = greediest.iter().find(|(_, peer)| peer.idle().is_some()).map(|(number, _)| *number);
            let number = idle.or_else(|| greediest.keys().next().copied())?;
            greediest.remove(&number)?.gives_way();
            open.connections -= 1;
        }
        let number = self.number();
        open.connections += 1;
        open.addresses.entry(address.clone()).or_default().insert(number, peer.clone());
        Some(Connected { core: self.clone(), address: address.clone(), number })
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Told when that changes.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Takes no more connections and calls, ends what would last, and from now on waits for messages no longer than a
    /// moment. Who is refused may call again elsewhere.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
        for call in self.watches.clear().into_iter().chain(self.exchanges.clear()) {
            call.refuse(&self.endings.stopping);
        }
    }

    /// Waits until no call is open any more. Whether none is.
    pub fn wait(&self, patience: Duration) -> bool {
        self.wait_until(patience, |open| open.calls.is_empty())
    }

    /// Ends what is not answered yet, cuts connections and ends the threads.
    pub fn end(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let calls: Vec<_> = self.lock().calls.values().cloned().collect();
        for call in calls {
            call.refuse(if call.has_begun() { &self.endings.stopped } else { &self.endings.stopping });
        }
        self.wait_until(left(deadline), |open| open.calls.is_empty());
        self.wait_until(left(deadline), |open| open.connections == 0);
        self.phase.send_replace(Phase::Ended);
        for room in self.threads.all() {
            room.close(left(deadline));
        }
    }

    /// Looks after calls that wait, for as long as the listener lives.
    pub async fn sweep(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(SWEEP);
        let message_time = Duration::try_from_secs_f64(self.settings.message_seconds).unwrap_or(Duration::MAX);
        while self.phase() != Phase::Ended {
            rounds.tick().await;
            let now = Instant::now();
            let before = |duration: Duration| now.checked_sub(duration);
            if let Some(moment) = before(SLOW) {
                for greedy in self.unfinished.surplus(self.settings.slow, moment) {
                    self.dismiss(&greedy, &self.endings.overloaded);
                }
            }
            let (time, ending) = match self.phase() {
                Phase::Serving => (message_time, &self.endings.incomplete),
                _ => (SLOW, &self.endings.stopping),
            };
            for late in before(time).map(|moment| self.unfinished.overdue(moment)).unwrap_or_default() {
                self.dismiss(&late, ending);
            }
        }
    }

    fn wait_until(&self, patience: Duration, is_so: impl Fn(&Open) -> bool) -> bool {
        let open = self.lock();
        let waited = self.has_closed.wait_timeout_while(open, patience, |open| !is_so(open));
        is_so(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection, until it is dropped.
pub struct Connected {
    core: Arc<Core>,
    address: Arc<str>,
    number: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut open = self.core.lock();
        let held = open.addresses.get_mut(&self.address);
        let (was_counted, is_last) =
            held.map_or((false, false), |held| (held.remove(&self.number).is_some(), held.is_empty()));
        if is_last {
            open.addresses.remove(&self.address);
        }
        if was_counted {
            open.connections -= 1;
        }
        self.core.has_closed.notify_all();
    }
}
