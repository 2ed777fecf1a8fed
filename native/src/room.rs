//! Threads in which Python answers calls: one at a time as long as it gets on, more while it waits for something. Python
//! runs in one thread at a time, and each more that wants to keeps the others waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use crate::call::Waiting;
use crate::turns::{Bounds, Task, Turns};

/// Calls that a thread answers for each time that it acquires the interpreter's lock.
const BATCH: usize = 32;
/// How long a thread may be at one call, while others wait, until it is looked at whether it waits for something.
const LONG: Duration = Duration::from_millis(2);
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// Has Python answer one call.
pub type Answer = Arc<dyn Fn(Python<'_>, &Waiting) + Send + Sync>;

enum Work {
    Call(Waiting),
    Chore(Vec<Py<PyAny>>),
}

struct Worker {
    thread: JoinHandle<()>,
    /// The kernel's number of the thread, once it runs.
    number: i32,
    /// When it took what it works on.
    taken: Instant,
    /// Whether it woke and has taken nothing yet: then it may be waiting for the interpreter's lock.
    is_fresh: bool,
    is_active: bool,
    /// How often it had given up its processor when it was looked at last, at the same call.
    seen: Option<u64>,
    /// Whether it was seen to wait for something.
    is_blocked: bool,
}

struct State {
    turns: Turns<Waiting>,
    chores: VecDeque<Vec<Py<PyAny>>>,
    workers: Vec<Worker>,
    /// Those that are active and not blocked: one at a time gets on best.
    running: usize,
    idle: usize,
    /// Threads that are to wake and have not done so.
    permits: usize,
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
            workers: Vec::new(),
            running: 0,
            idle: 0,
            permits: 0,
            is_watched: false,
            is_closed: false,
        };
        Arc::new(Self { name, most, answer, runtime, state: Mutex::new(state), wake: Condvar::new() })
    }

    /// Has a call wait for its turn. Answers those that have to give way instead, when there are too many.
    pub fn put(self: &Arc<Self>, task: Waiting) -> Vec<Waiting> {
        let mut state = self.lock();
        if state.is_closed {
            return vec![task];
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
        self.lock().is_closed = true;
        self.wake.notify_all();
        let deadline = Instant::now() + patience;
        while !self.lock().workers.iter().all(|worker| worker.thread.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(LEAVE_POLL);
        }
    }

    fn has_work(self: &Arc<Self>, state: &mut State) {
        if !state.is_ready() {
            return;
        }
        if state.running == 0 {
            self.wake_one(state);
        } else if !state.is_watched {
            state.is_watched = true;
            self.runtime.spawn(Self::watch(self.clone()));
        }
    }

    /// Wakes one more thread each time that all of them wait for something, until no call waits.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LONG).await;
            let mut state = self.lock();
            if !state.is_ready() || state.is_closed {
                state.is_watched = false;
                return;
            }
            let mut blocked = 0;
            for worker in &mut state.workers {
                if worker.is_active && !worker.is_blocked && !worker.is_fresh && worker.taken.elapsed() >= LONG {
                    let now = sleeping(worker.number);
                    worker.is_blocked = now.is_some() && now == worker.seen;
                    worker.seen = now;
                    blocked += usize::from(worker.is_blocked);
                }
            }
            state.running -= blocked;
            if state.running == 0 {
                self.wake_one(&mut state);
            }
        }
    }

    fn wake_one(self: &Arc<Self>, state: &mut State) {
        if state.idle > 0 {
            state.idle -= 1;
            state.permits += 1;
            self.wake.notify_one();
        } else if state.workers.len() < self.most {
            let (room, me) = (self.clone(), state.workers.len());
            // It waits for the state's lock first, which is held here.
            let Ok(thread) = Builder::new().name(format!("{}-{me}", self.name)).spawn(move || room.work(me)) else {
                // A machine without threads has those that there are.
                return;
            };
            let taken = Instant::now();
            let worker =
                Worker { thread, number: 0, taken, is_fresh: true, is_active: true, seen: None, is_blocked: false };
            state.workers.push(worker);
        } else {
            return;
        }
        state.running += 1;
    }

    fn work(self: &Arc<Self>, me: usize) {
        self.lock().workers[me].number = gettid().as_raw_nonzero().get();
        Python::attach(|py| {
            while py.detach(|| self.rest(me)) {
                for _ in 0..BATCH {
                    match self.next(me) {
                        None => break,
                        Some(Work::Call(waiting)) => {
                            let began = thread_time();
                            (self.answer)(py, &waiting);
                            self.is_through(waiting, thread_time().saturating_sub(began));
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

    /// Gives the place of a call back that took so much of a processor, once its group has rested.
    fn is_through(self: &Arc<Self>, waiting: Waiting, took: Duration) {
        let group = waiting.caller().group.clone();
        let mut state = self.lock();
        let rest = state.turns.spent(&group, took);
        if rest.is_zero() {
            state.turns.done(&group);
            return;
        }
        drop(state);
        let room = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(rest).await;
            let mut state = room.lock();
            state.turns.done(&group);
            room.has_work(&mut state);
        });
    }

    /// Waits until this thread has something to do. False where the room is closed.
    fn rest(&self, me: usize) -> bool {
        let mut state = self.lock();
        state.is_back(me);
        if state.is_ready() && (state.running == 1 || state.workers[me].is_fresh) {
            return true;
        }
        loop {
            state.running -= 1;
            let worker = &mut state.workers[me];
            worker.is_fresh = false;
            worker.is_active = false;
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
            let worker = &mut state.workers[me];
            worker.is_fresh = true;
            worker.is_active = true;
            if state.is_ready() {
                return true;
            }
        }
    }

    /// What to do next; nothing where that is for another thread.
    fn next(&self, me: usize) -> Option<Work> {
        let mut state = self.lock();
        let was_blocked = state.is_back(me);
        if was_blocked && state.running > 1 {
            return None;
        }
        let work = match state.chores.pop_front() {
            Some(all) => Work::Chore(all),
            None => Work::Call(state.turns.take()?),
        };
        let worker = &mut state.workers[me];
        worker.is_fresh = false;
        worker.seen = None;
        worker.taken = Instant::now();
        Some(work)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A thread is through with what it took. Whether it had been seen to wait.
    fn is_back(&mut self, me: usize) -> bool {
        let was_blocked = std::mem::take(&mut self.workers[me].is_blocked);
        self.running += usize::from(was_blocked);
        was_blocked
    }

    fn is_ready(&self) -> bool {
        !self.chores.is_empty() || self.turns.is_ready()
    }
}

/// How often a thread of this process has given up its processor, where it sleeps. Who waits for the interpreter's lock
/// sleeps too, but wakes again and again to ask for it: only a number that stays tells of one that waits for something
/// else.
fn sleeping(number: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/self/task/{number}/status")).unwrap_or_default();
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if value("State:").is_some_and(|state| state.starts_with('R')) {
        return None;
    }
    Some(value("voluntary_ctxt_switches:").and_then(|count| count.parse().ok()).unwrap_or_default())
}

/// How long this thread has had a processor.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
