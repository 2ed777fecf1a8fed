//! One call: its headers, its message, its turn, its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::call::{Call, Guard, Outcome, Waiting};
use crate::connection::Peer;
use crate::core::{Core, Lasting, Phase};
use crate::framing::{Messages, Wrong};
use crate::headers::{GRPC, TIMEOUT, is_grpc, timeout};
use crate::status::Ending;
use crate::tasks;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTS: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const REFUSED_WINDOW: u64 = 256 << 10;

/// Takes one request, and answers it. Its place among those that come is taken at once, its answer comes later.
pub fn serve(
    core: &Arc<Core>,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
    let core = core.clone();
    let peer = peer.clone();
    let taken = take(&core, peer.clone(), request);
    let pause = taken.as_ref().err().and_then(|_| core.dismissal(&peer.stranger.group));
    async move {
        let (guard, decided, messages) = match taken {
            Ok(taken) => taken,
            Err(refused) => {
                let mut untold = Untold { peer: &peer, is_told: false };
                // Who is refused by its headers, and calls again, has others wait for no more than one.
                if let Some(pause) = pause {
                    core.pause(pause).await;
                }
                untold.is_told = true;
                return Ok(*refused);
            }
        };
        if matches!(guard.call().method.lasting, Some(Lasting::Exchange)) {
            tokio::spawn(exchange(core.clone(), guard.call().clone(), messages));
            return Ok(respond(&core, guard, decided.await.ok()).await);
        }
        Ok(answer(&core, guard, decided, messages).await)
    }
}

/// A refusal by headers, until it is told: it may be taken back before.
struct Untold<'a> {
    peer: &'a Peer,
    is_told: bool,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.peer.reset();
        }
    }
}

type Taken = (Guard, oneshot::Receiver<Outcome>, Messages);

/// A call, by its headers, or what it is refused with.
fn take(core: &Arc<Core>, peer: Arc<Peer>, request: Request<Incoming>) -> Result<Taken, Box<Response<Answer>>> {
    let refused = |ending: &Ending| Box::new(response(ending.trailers(), Answer::Empty(None)));
    let (head, body) = request.into_parts();
    let headers = head.headers;
    if head.method != http::Method::POST {
        return Err(not_grpc(StatusCode::METHOD_NOT_ALLOWED));
    }
    if !headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        return Err(not_grpc(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if core.phase() != Phase::Serving {
        return Err(refused(&core.endings.stopping));
    }
    let Some(method) = core.methods.get().and_then(|methods| methods.get(head.uri.path())) else {
        return Err(refused(&core.endings.unknown));
    };
    if let Some((identities, ending)) = &method.only {
        if !identities.contains(&peer.spiffe_id) {
            return Err(refused(ending));
        }
    }
    if headers.get(ENCODING).is_some_and(|encoding| encoding != IDENTITY) {
        return Err(refused(&core.endings.compressed));
    }
    let deadline = match headers.get(TIMEOUT).map(timeout) {
        None => None,
        Some(Some(timeout)) => Some(Instant::now() + timeout),
        Some(None) => return Err(refused(&core.endings.malformed)),
    };
    let whose = core.callers.find(&headers, &peer.spiffe_id, &peer.stranger);
    let messages = Messages::new(body, peer.clone(), core.settings.message_bytes);
    let (call, decided) = Call::new(core.number(), method.clone(), headers, peer, deadline, whose);
    Ok((Guard::new(core, &call), decided, messages))
}

/// A call with one message.
async fn answer(
    core: &Arc<Core>,
    guard: Guard,
    mut decided: oneshot::Receiver<Outcome>,
    mut messages: Messages,
) -> Response<Answer> {
    let call = guard.call().clone();
    let arrived = tokio::select! {
        biased;
        outcome = &mut decided => {
            // What has come of it takes memory, and what is on its way is no noise.
            drop(messages);
            call.peer.earn(REFUSED_WINDOW);
            return respond(core, guard, outcome.ok()).await;
        }
        () = until(call.deadline) => Err(&core.endings.overdue),
        message = whole(core, &call, &mut messages) => message,
    };
    match arrived {
        Ok(message) => hand_over(core, &call, message),
        Err(ending) => {
            call.refuse(ending);
        }
    }
    // Read on meanwhile: a client that has said all may be answered at once, and says so in a frame of its own.
    let mut finishing = pin!(messages.finish());
    let mut has_finished = false;
    let mut overdue = pin!(until(call.deadline));
    loop {
        tokio::select! {
            biased;
            outcome = &mut decided => return respond(core, guard, outcome.ok()).await,
            () = &mut finishing, if !has_finished => has_finished = true,
            () = &mut overdue => {
                call.refuse(&core.endings.overdue);
                overdue.set(until(None));
            }
        }
    }
}

/// A call that goes on, message for message: the next is read when the caller has taken the answer to the one before, so
/// that no thread waits for that.
async fn exchange(core: Arc<Core>, call: Arc<Call>, mut messages: Messages) {
    loop {
        // Listened for before there is anything to be told, and before it is looked whether the call has ended.
        let mut told = pin!(call.told.notified());
        told.as_mut().enable();
        if !call.is_active() {
            return;
        }
        let message = tokio::select! {
            biased;
            () = &mut told => continue,
            () = until(call.deadline) => Err(&core.endings.overdue),
            message = whole(&core, &call, &mut messages) => message,
        };
        match message {
            Ok(message) => hand_over(&core, &call, message),
            Err(ending) => {
                call.refuse(ending);
                return;
            }
        }
        let answered = async {
            told.await;
            call.taken().await;
        };
        tokio::select! {
            () = answered => {}
            () = until(call.deadline) => {
                call.refuse(&core.endings.overdue);
                return;
            }
        }
    }
}

/// The call's message, or how it ends without.
async fn whole<'a>(core: &'a Arc<Core>, call: &Arc<Call>, messages: &mut Messages) -> Result<Bytes, &'a Ending> {
    let endings = &core.endings;
    let read = {
        let mut reading = pin!(messages.next());
        // Most messages come with their headers: those take no place.
        let there = std::future::poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        match there {
            Poll::Ready(read) => read,
            Poll::Pending => {
                let place = Unfinished::enter(core, call);
                let read = reading.await;
                drop(place);
                read
            }
        }
    };
    read.map_err(|wrong| match wrong {
        // An exchange is over when the caller has said all that it had to.
        Wrong::Missing if matches!(call.method.lasting, Some(Lasting::Exchange)) => &endings.fine,
        Wrong::Missing => &endings.missing,
        Wrong::Malformed | Wrong::Gone => &endings.malformed,
        Wrong::Compressed => &endings.compressed,
        Wrong::TooLarge => {
            // What is on its way of it already.
            call.peer.earn(REFUSED_WINDOW);
            &endings.too_large
        }
    })
}

/// A place among calls whose message has not come.
struct Unfinished<'a> {
    core: &'a Arc<Core>,
    number: u64,
}

impl<'a> Unfinished<'a> {
    fn enter(core: &'a Arc<Core>, call: &Arc<Call>) -> Self {
        if let Some(displaced) = core.unfinished.enter(call.number, &call.whose.caller.group, call.clone()) {
            core.dismiss(&displaced, &core.endings.overloaded);
        }
        Self { core, number: call.number }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.core.unfinished.leave(self.number);
    }
}

fn hand_over(core: &Arc<Core>, call: &Arc<Call>, message: Bytes) {
    let size = message.len();
    call.put(message);
    for displaced in core.room(call).put(Waiting { call: call.clone(), size }) {
        displaced.call.put(Bytes::new());
        core.dismiss(&displaced.call, &core.endings.overloaded);
    }
}

async fn respond(core: &Core, mut guard: Guard, outcome: Option<Outcome>) -> Response<Answer> {
    match outcome {
        Some(Outcome::Answer(message, trailers)) => {
            guard.answered(message.len());
            response(HeaderMap::new(), Answer::Whole { message: Some(message), trailers: Some(trailers), guard })
        }
        Some(Outcome::Stream(outbox)) => {
            guard.answered(0);
            if let Some(cut) = tasks::cut() {
                guard.call().may_be_cut_by(cut);
            }
            response(HeaderMap::new(), Answer::Stream { outbox, guard })
        }
        Some(Outcome::Ending(trailers)) => {
            guard.answered(0);
            response(trailers, Answer::Empty(Some(guard)))
        }
        Some(Outcome::Later(trailers, pause)) => {
            core.pause(pause).await;
            guard.answered(0);
            response(trailers, Answer::Empty(Some(guard)))
        }
        None => {
            guard.answered(0);
            response(HeaderMap::new(), Answer::Empty(Some(guard)))
        }
    }
}

fn response(headers: HeaderMap, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

fn not_grpc(status: StatusCode) -> Box<Response<Answer>> {
    let mut response = Response::new(Answer::Empty(None));
    *response.status_mut() = status;
    Box::new(response)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What says, beside a refusal of a compressed message, what is taken.
pub fn accepts_identity() -> (HeaderName, HeaderValue) {
    (ACCEPTS, IDENTITY)
}
