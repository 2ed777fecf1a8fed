//! One service at its addresses, and the one path that every call takes: trace, token, deadline, retries, errors.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tonic::{Code, Response, Status};

use crate::connection::{Channel, Connection, Headers};
use crate::{Error, trace};

/// How often all addresses are tried.
const ROUNDS: usize = 4;
/// How long is waited between two rounds at most: a random part of it is.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Endpoint {
    service: &'static str,
    connections: Vec<Connection>,
    preferred: AtomicUsize,
}

impl Endpoint {
    pub(crate) fn new(service: &'static str, connections: Vec<Connection>) -> Self {
        Self { service, connections, preferred: AtomicUsize::new(0) }
    }

    /// What `call` answers until `deadline`; what nobody answered is tried again where `repeatable`.
    pub(crate) async fn call<A, F>(
        &self,
        call: impl Fn(Channel) -> F,
        deadline: Instant,
        repeatable: bool,
        token: Option<&str>,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let count = self.connections.len();
        let attempts = if repeatable { ROUNDS * count } else { 1 };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let index = self.preferred.load(Ordering::Relaxed) % count;
            let error = match self.once(index, &call, deadline, token).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_away() {
                self.preferred.store((index + 1) % count, Ordering::Relaxed);
            }
            if attempt >= attempts || error.code != Code::Unavailable {
                return Err(error);
            }
            // At once at another address; at all of them again only after a while.
            if attempt % count == 0 {
                let wait = error.retry_after + jittered(attempt / count);
                if Instant::now() + wait >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn once<A, F>(
        &self,
        index: usize,
        call: &impl Fn(Channel) -> F,
        deadline: Instant,
        token: Option<&str>,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let connection = &self.connections[index];
        let traceparent = trace::traceparent();
        let timeout = deadline.saturating_duration_since(Instant::now());
        let peer = || format!("{} at {}", self.service, connection.address());
        let headers = Headers { traceparent: traceparent.clone(), token: token.map(str::to_owned), timeout };
        let channel = Channel::new(connection.current()?, headers);
        match tokio::time::timeout(timeout, call(channel)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error::of_status(&status, &peer(), trace::trace_id(&traceparent))),
            Err(_) => Err(Error::not_in_time(&peer(), trace::trace_id(&traceparent))),
        }
    }
}

fn jittered(round: usize) -> Duration {
    let longest = LONGEST_WAIT.min(FIRST_WAIT * (1 << (round - 1).min(8)));
    let mut random = [0];
    let _ = SystemRandom::new().fill(&mut random);
    longest * u32::from(random[0]) / 256
}
