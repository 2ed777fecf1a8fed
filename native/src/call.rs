//! One call, from its headers to its end, which is decided once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use pyo3::prelude::*;
use tokio::sync::{Notify, oneshot};

use crate::answer::Outbox;
use crate::callers::Whose;
use crate::connection::Peer;
use crate::core::{Core, Method};
use crate::status::Ending;
use crate::turns::{Caller, Task};

/// How a call is answered, or why it is not.
pub enum Outcome {
    /// A message, framed, and the end.
    Answer(Bytes, HeaderMap),
    /// An end alone.
    Ending(HeaderMap),
    /// The same, said after a while.
    Later(HeaderMap, std::time::Duration),
    /// Messages as they come.
    Stream(Arc<Outbox>),
}

/// One call.
pub struct Call {
    /// Those that come later have higher ones.
    pub number: u64,
    /// What is called.
    pub method: Arc<Method>,
    /// As they came.
    pub headers: HeaderMap,
    /// The connection that it came on.
    pub peer: Arc<Peer>,
    /// When its caller waits no longer.
    pub deadline: Option<Instant>,
    /// Whose it is.
    pub whose: Whose,
    message: Mutex<Option<Bytes>>,
    decide: Mutex<Option<oneshot::Sender<Outcome>>>,
    outbox: OnceLock<Arc<Outbox>>,
    cut: OnceLock<Arc<Notify>>,
    has_begun: AtomicBool,
    has_ended: AtomicBool,
    on_end: Mutex<Vec<Py<PyAny>>>,
    /// Told when one message of a stream was answered, so that the next may be read, and when the call has ended.
    pub told: Notify,
}

impl Call {
    /// A call whose headers have come, and where its outcome will be told.
    pub fn new(
        number: u64,
        method: Arc<Method>,
        headers: HeaderMap,
        peer: Arc<Peer>,
        deadline: Option<Instant>,
        whose: Whose,
    ) -> (Arc<Self>, oneshot::Receiver<Outcome>) {
        let (decide, decided) = oneshot::channel();
        let call = Self {
            number,
            method,
            headers,
            peer,
            deadline,
            whose,
            message: Mutex::new(None),
            decide: Mutex::new(Some(decide)),
            outbox: OnceLock::new(),
            cut: OnceLock::new(),
            has_begun: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            on_end: Mutex::new(Vec::new()),
            told: Notify::new(),
        };
        (Arc::new(call), decided)
    }

    /// Keeps the message until Python takes it.
    pub fn put(&self, message: Bytes) {
        *lock(&self.message) = Some(message);
    }

    /// Takes the message. From then on a method may have begun.
    pub fn take(&self) -> Option<Bytes> {
        self.has_begun.store(true, Ordering::Release);
        lock(&self.message).take()
    }

    /// Whether a method may have begun to work.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Whether the caller still listens.
    pub fn is_active(&self) -> bool {
        !self.has_ended.load(Ordering::Acquire)
    }

    /// Decides how the call ends. False where that was decided before, or the caller is gone.
    pub fn decide(&self, outcome: Outcome) -> bool {
        lock(&self.decide).take().is_some_and(|decide| decide.send(outcome).is_ok())
    }

    /// Ends the call, whatever it is in.
    pub fn end(&self, trailers: HeaderMap) -> bool {
        match self.outbox.get() {
            Some(outbox) => outbox.end(trailers),
            None => self.decide(Outcome::Ending(trailers)),
        }
    }

    /// Ends the call with what is told to many.
    pub fn refuse(&self, ending: &Ending) -> bool {
        self.end(ending.trailers())
    }

    /// The same, after a while.
    pub fn refuse_later(&self, ending: &Ending, pause: std::time::Duration) -> bool {
        self.decide(Outcome::Later(ending.trailers(), pause))
    }

    /// Waits until the caller has taken all messages that were sent.
    pub async fn taken(&self) {
        if let Some(outbox) = self.outbox.get() {
            outbox.emptied().await;
        }
    }

    /// Notes what ends the task that answers.
    pub fn may_be_cut_by(&self, cut: Arc<Notify>) {
        let _ = self.cut.set(cut);
    }

    /// Ends a call whose messages go out, though its caller takes none of them.
    pub fn cut(&self) {
        if let Some(cut) = self.cut.get() {
            cut.notify_one();
        }
    }

    /// Whether messages of it go out already.
    pub fn is_open(&self) -> bool {
        self.outbox.get().is_some()
    }

    /// Where the messages of a stream go; begins to answer.
    pub fn open(&self) -> &Arc<Outbox> {
        self.outbox.get_or_init(|| {
            let outbox = Arc::new(Outbox::default());
            if !self.decide(Outcome::Stream(outbox.clone())) {
                outbox.close();
            }
            outbox
        })
    }

    /// Has `tell` called when the call ends. False where it has ended.
    pub fn on_end(&self, tell: Py<PyAny>) -> bool {
        let mut all = lock(&self.on_end);
        // Looked at under the lock: the end takes all of them at once.
        if self.is_active() {
            all.push(tell);
        }
        self.is_active()
    }

    /// Answers what is to be told.
    fn has_come_to_an_end(&self) -> Vec<Py<PyAny>> {
        let mut all = lock(&self.on_end);
        self.has_ended.store(true, Ordering::Release);
        lock(&self.decide).take();
        lock(&self.message).take();
        if let Some(outbox) = self.outbox.get() {
            outbox.close();
        }
        self.told.notify_waiters();
        std::mem::take(&mut all)
    }
}

/// A whole call that waits for its turn.
pub struct Waiting {
    /// The call.
    pub call: Arc<Call>,
    /// Of its message.
    pub size: usize,
}

impl Task for Waiting {
    fn caller(&self) -> &Caller {
        &self.call.whose.caller
    }

    fn size(&self) -> usize {
        self.size
    }
}

/// Counts a call as open, until it is dropped: then the call has ended, however that may be.
pub struct Guard {
    core: Arc<Core>,
    call: Arc<Call>,
    untaken: Option<u64>,
    is_answered: bool,
}

impl Guard {
    /// Counts a call. Somebody else's that lasts may have to give way to one that does.
    pub fn new(core: &Arc<Core>, call: &Arc<Call>) -> Self {
        if let Some(kind) = call.method.lasting {
            let displaced = core.lasting(kind).enter(call.number, &call.whose.caller.group, call.clone());
            if let Some(displaced) = displaced {
                core.dismiss(&displaced, &core.endings.overloaded);
            }
        }
        call.peer.opened();
        core.opened(call);
        Self { core: core.clone(), call: call.clone(), untaken: None, is_answered: false }
    }

    /// Notes that an answer waits to be taken, which has its time.
    pub fn answered(&mut self, bytes: usize) {
        self.is_answered = true;
        self.untaken = self.call.peer.answered(bytes);
    }

    /// The call that is counted.
    pub fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let told = self.call.has_come_to_an_end();
        // What was decided and waits to be told is taken back as well.
        if !self.is_answered {
            self.call.peer.reset();
        }
        if let Some(kind) = self.call.method.lasting {
            self.core.lasting(kind).leave(self.call.number);
        }
        self.call.peer.closed(self.untaken);
        self.core.closed(self.call.number);
        if !told.is_empty() {
            self.core.at_once().tell(told);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
