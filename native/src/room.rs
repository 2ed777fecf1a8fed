//! Threads in which Python answers calls: one at a time as long as it gets on, more while it waits for something.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use crate::call::Waiting;
use crate::turns::{Bounds, Task, Turns};

/// Calls that a thread answers for each time that it acquires the interpreter's lock.
const BATCH: usize = 32;
/// For so long no call may have been taken, while some wait, until one more thread wakes.
const STUCK: Duration = Duration::from_millis(1);
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// Has Python answer one call.
pub type Answer = Arc<dyn Fn(Python<'_>, &Waiting) + Send + Sync>;

enum Work {
    Call(Waiting),
    Chore(Vec<Py<PyAny>>),
}

struct State {
    turns: Turns<Waiting>,
    chores: VecDeque<Vec<Py<PyAny>>>,
    threads: Vec<JoinHandle<()>>,
    active: usize,
    idle: usize,
    /// Threads that are to wake and have not done so.
    permits: usize,
    /// Threads that woke and have not taken anything yet: they may be waiting for the interpreter's lock.
    fresh: usize,
    taken_at: Instant,
    taken_by: usize,
    is_watched: bool,
    is_closed: bool,
}

/// Some threads, and the calls that wait for them.
pub struct Room {
    name: String,
    most: usize,
    answer: Answer,
    runtime: Handle,
    state: Mutex<State>,
    wake: Condvar,
}

impl Room {
    /// Up to so many threads, none of which runs yet.
    pub fn new(name: String, most: usize, bounds: Bounds, answer: Answer, runtime: Handle) -> Arc<Self> {
        let state = State {
            turns: Turns::new(bounds),
            chores: VecDeque::new(),
            threads: Vec::new(),
            active: 0,
            idle: 0,
            permits: 0,
            fresh: 0,
            taken_at: Instant::now(),
            taken_by: 0,
            is_watched: false,
            is_closed: false,
        };
        Arc::new(Self { name, most, answer, runtime, state: Mutex::new(state), wake: Condvar::new() })
    }

    /// Has a call wait for its turn. Answers the one that has to give way instead, when there are too many.
    pub fn put(self: &Arc<Self>, task: Waiting) -> Option<Waiting> {
        let mut state = self.lock();
        if state.is_closed {
            return Some(task);
        }
        let displaced = state.turns.put(task);
        self.has_work(&mut state);
        displaced
    }

    /// Has functions called.
    pub fn tell(self: &Arc<Self>, all: Vec<Py<PyAny>>) {
        let mut state = self.lock();
        if !state.is_closed {
            state.chores.push_back(all);
            self.has_work(&mut state);
        }
    }

    /// Ends the threads once they have nothing to do, and waits for them, but not for ever: what one waits for may hang.
    pub fn close(&self, patience: Duration) {
        let threads = {
            let mut state = self.lock();
            state.is_closed = true;
            self.wake.notify_all();
            std::mem::take(&mut state.threads)
        };
        let deadline = Instant::now() + patience;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LEAVE_POLL);
            }
            if thread.is_finished() && thread.join().is_err() {
                // It has told of its panic.
            }
        }
    }

    fn has_work(self: &Arc<Self>, state: &mut State) {
        if !state.is_ready() {
            return;
        }
        if state.active == 0 {
            self.wake_one(state);
        } else if !state.is_watched {
            state.is_watched = true;
            self.runtime.spawn(Self::watch(self.clone()));
        }
    }

    /// Wakes one more thread each time that nobody gets on, until nothing waits.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(STUCK).await;
            let mut state = self.lock();
            if !state.is_ready() || state.is_closed {
                state.is_watched = false;
                return;
            }
            if state.fresh == 0 && state.taken_at.elapsed() >= STUCK {
                self.wake_one(&mut state);
            }
        }
    }

    fn wake_one(self: &Arc<Self>, state: &mut State) {
        if state.idle > 0 {
            state.idle -= 1;
            state.permits += 1;
            self.wake.notify_one();
        } else if state.threads.len() < self.most {
            let (room, me) = (self.clone(), state.threads.len() + 1);
            match Builder::new().name(format!("{}-{me}", self.name)).spawn(move || room.work(me)) {
                Ok(thread) => state.threads.push(thread),
                // A machine without threads has those that there are.
                Err(_) => return,
            }
        } else {
            return;
        }
        state.active += 1;
        state.fresh += 1;
    }

    fn work(&self, me: usize) {
        Python::attach(|py| {
            let mut is_fresh = true;
            while py.detach(|| self.rest(me, &mut is_fresh)) {
                for _ in 0..BATCH {
                    match self.next(me, &mut is_fresh) {
                        None => break,
                        Some(Work::Call(waiting)) => {
                            let began = thread_time();
                            (self.answer)(py, &waiting);
                            let group = &waiting.caller().group;
                            self.lock().turns.done(group, thread_time().saturating_sub(began));
                        }
                        Some(Work::Chore(all)) => {
                            for one in all {
                                if let Err(error) = one.call0(py) {
                                    error.write_unraisable(py, None);
                                }
                            }
                        }
                    }
                }
            }
        });
    }

    /// Waits until this thread has something to do. False where the room is closed.
    fn rest(&self, me: usize, is_fresh: &mut bool) -> bool {
        let mut state = self.lock();
        let others_get_on = state.active > 1 && state.taken_by != me && state.taken_at.elapsed() < STUCK;
        if state.is_ready() && (*is_fresh || !others_get_on) {
            return true;
        }
        loop {
            state.active -= 1;
            if std::mem::take(is_fresh) {
                state.fresh -= 1;
            }
            if state.is_closed {
                return false;
            }
            state.idle += 1;
            while state.permits == 0 && !state.is_closed {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.permits == 0 {
                return false;
            }
            state.permits -= 1;
            *is_fresh = true;
            if state.is_ready() {
                return true;
            }
        }
    }

    fn next(&self, me: usize, is_fresh: &mut bool) -> Option<Work> {
        let mut state = self.lock();
        let work = match state.chores.pop_front() {
            Some(all) => Work::Chore(all),
            None => Work::Call(state.turns.take()?),
        };
        if std::mem::take(is_fresh) {
            state.fresh -= 1;
        }
        state.taken_at = Instant::now();
        state.taken_by = me;
        Some(work)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.chores.is_empty() || self.turns.is_ready()
    }
}

/// How long this thread has had a processor.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
