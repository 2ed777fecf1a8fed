//! What goes back to the caller of one call.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

use crate::call::Guard;

const MOST_QUEUED: usize = 4;

/// The body of an answer. It holds what counts a call as open, which is let go when all of it has been taken.
pub enum Answer {
    /// Nothing but an end, which is said in headers.
    Empty(#[expect(dead_code, reason = "it is held")] Option<Guard>),
    /// One message, and the end.
    Whole {
        /// Until it has left.
        message: Option<Bytes>,
        /// Likewise.
        trailers: Option<HeaderMap>,
        /// Counts the call as open.
        #[expect(dead_code, reason = "it is held")]
        guard: Guard,
    },
    /// Messages as they are made.
    Stream {
        /// Where they are put.
        outbox: Arc<Outbox>,
        /// Counts the call as open.
        #[expect(dead_code, reason = "it is held")]
        guard: Guard,
    },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Empty(_) => Poll::Ready(None),
            Self::Whole { message, trailers, .. } => {
                let frame = message.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Self::Stream { outbox, .. } => outbox.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty(_) => true,
            Self::Whole { message, trailers, .. } => message.is_none() && trailers.is_none(),
            Self::Stream { .. } => false,
        }
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    newest: Option<Bytes>,
    ending: Option<HeaderMap>,
    is_ended: bool,
    is_closed: bool,
    waker: Option<Waker>,
}

/// Messages on their way to one caller: few, or of a kind of which only the newest matters.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    taken: Condvar,
    emptied: Notify,
}

impl Outbox {
    /// Queues a message; waits while the caller takes nothing. False where the call has ended.
    pub fn send(&self, message: Bytes) -> bool {
        let mut state = self.lock();
        while state.queue.len() >= MOST_QUEUED && !state.is_over() {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_over() {
            return false;
        }
        state.queue.push_back(message);
        state.wake();
        true
    }

    /// Waits, in no thread, until the caller has taken all that was sent, or the call is over.
    pub async fn emptied(&self) {
        while !self.lock().has_left() {
            self.emptied.notified().await;
        }
    }

    /// Sends a message, in place of the one before where that has not left.
    pub fn offer(&self, message: Bytes) {
        let mut state = self.lock();
        if !state.is_over() {
            state.newest = Some(message);
            state.wake();
        }
    }

    /// Ends the call, after what was sent before. False where it has ended.
    pub fn end(&self, trailers: HeaderMap) -> bool {
        let mut state = self.lock();
        if state.is_over() {
            return false;
        }
        state.ending = Some(trailers);
        state.is_ended = true;
        state.wake();
        self.taken.notify_all();
        self.emptied.notify_one();
        true
    }

    /// Nobody takes anything any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.queue.clear();
        state.newest = None;
        self.taken.notify_all();
        self.emptied.notify_one();
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.lock();
        if let Some(message) = state.queue.pop_front() {
            self.taken.notify_one();
            self.emptied.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if let Some(message) = state.newest.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if let Some(trailers) = state.ending.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.is_ended || self.is_closed
    }

    fn has_left(&self) -> bool {
        self.queue.is_empty() || self.is_over()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    fn taken(outbox: &Outbox) -> Option<Bytes> {
        match outbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    #[test]
    fn only_the_newest_of_what_is_offered_leaves() {
        let outbox = Outbox::default();
        outbox.offer("old".into());
        outbox.offer("new".into());
        assert_eq!(taken(&outbox), Some("new".into()));
        assert_eq!(taken(&outbox), None);
    }

    #[test]
    fn what_was_sent_leaves_before_the_end_and_nothing_after() {
        let outbox = Outbox::default();
        assert!(outbox.send("one".into()));
        assert!(outbox.end(HeaderMap::new()));
        assert!(!outbox.send("two".into()) && !outbox.end(HeaderMap::new()));
        assert_eq!(taken(&outbox), Some("one".into()));
        assert!(matches!(outbox.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(outbox.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
    }

    #[test]
    fn what_was_sent_has_left_once_it_is_taken_or_the_call_is_over() {
        let waits = |outbox: &Outbox| {
            std::pin::pin!(outbox.emptied()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        let outbox = Outbox::default();
        assert!(!waits(&outbox));
        outbox.send("one".into());
        assert!(waits(&outbox));
        taken(&outbox);
        assert!(!waits(&outbox));
        outbox.send("two".into());
        outbox.close();
        assert!(!waits(&outbox));
    }

    #[test]
    fn who_sends_to_a_caller_that_takes_nothing_goes_on_when_the_call_ends() {
        let outbox = Arc::new(Outbox::default());
        for _ in 0..MOST_QUEUED {
            assert!(outbox.send("x".into()));
        }
        let sender = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.send("one too many".into())
        });
        outbox.close();
        assert!(!sender.join().unwrap());
    }
}
