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
/// How long is waited before it is asked again what became of a change.
const PENDING_WAIT: Duration = Duration::from_millis(250);

pub(crate) struct Endpoint {
    service: &'static str,
    connections: Vec<Connection>,
    preferred: AtomicUsize,
}

impl Endpoint {
    pub(crate) fn new(service: &'static str, connections: Vec<Connection>) -> Self {
        Self { service, connections, preferred: AtomicUsize::new(0) }
    }

    /// What `call` answers until `deadline`. It is tried again where nothing was done for certain; where `repeatable`, also
    /// where nobody answered, and a change that stands or may stand is asked for until that is known.
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
        let attempts = ROUNDS * count;
        let mut attempt = 0;
        let mut pending: Option<Error> = None;
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
            if repeatable && error.may_stand() {
                pending = Some(error.clone());
            }
            if let Some(pending) = &pending {
                if !error.is_away() {
                    return Err(error);
                }
                if Instant::now() + PENDING_WAIT >= deadline {
                    return Err(pending.clone());
                }
                tokio::time::sleep(PENDING_WAIT).await;
                continue;
            }
            let again = error.code == Code::Unavailable && (repeatable || error.is_undone);
            if attempt >= attempts || !again {
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

    /// What `call` answers at one address, as a stream without a deadline.
    pub(crate) async fn open<A, F>(&self, call: impl Fn(Channel) -> F, token: Option<&str>) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let connection = &self.connections[self.preferred.load(Ordering::Relaxed) % self.connections.len()];
        let traceparent = trace::traceparent();
        let headers = Headers { traceparent: traceparent.clone(), token: token.map(str::to_owned), timeout: None };
        let answer = call(Channel::new(connection.current()?, headers)).await;
        let peer = || format!("{} at {}", self.service, connection.address());
        answer
            .map(Response::into_inner)
            .map_err(|status| Error::of_status(&status, &peer(), trace::trace_id(&traceparent)))
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
        let headers =
            Headers { traceparent: traceparent.clone(), token: token.map(str::to_owned), timeout: Some(timeout) };
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::metadata::MetadataValue;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::connection::Pem;
    use crate::contracts::strongroom::access::v1::GetCallerIdentityRequest;
    use crate::contracts::strongroom::access::v1::session_service_client::SessionServiceClient;

    fn refused(reason: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, "strongroom", HashMap::new());
        Status::with_error_details(Code::Unavailable, "refused", details)
    }

    /// What a process that ends says of a call: with a negative pushback, of one that it has begun.
    fn pushed_back(pushback: &'static str) -> Status {
        let mut status = refused("SHUTTING_DOWN");
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from_static(pushback));
        status
    }

    /// What comes of a call that is refused for these reasons, the last of which stays; and how often it was made.
    async fn called(reasons: &[&str], answered_at: usize, repeatable: bool, timeout: Duration) -> (String, usize) {
        let refusal = |number: usize| refused(reasons[number.min(reasons.len() - 1)]);
        called_with(refusal, answered_at, repeatable, timeout).await
    }

    async fn called_with(
        refusal: impl Fn(usize) -> Status,
        answered_at: usize,
        repeatable: bool,
        timeout: Duration,
    ) -> (String, usize) {
        let endpoint = Endpoint::new("keystore", vec![Connection::new("127.0.0.1:1", Pem::default())]);
        let count = AtomicUsize::new(0);
        let call = |_| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let outcome = if number == answered_at { Ok(Response::new(())) } else { Err(refusal(number)) };
            async move { outcome }
        };
        let outcome = endpoint.call(call, Instant::now() + timeout, repeatable, None).await;
        (outcome.err().map_or_else(String::new, |error| error.reason), count.into_inner())
    }

    #[tokio::test]
    async fn a_change_that_may_stand_is_asked_for_until_that_is_known() {
        let timeout = Duration::from_secs(20);
        for reason in ["AUDIT_PENDING", "CHANGE_UNDECIDED"] {
            let (reason, count) = called(&[reason, "AUDIT_UNREACHABLE"], ROUNDS + 2, true, timeout).await;
            assert_eq!((reason.as_str(), count), ("", ROUNDS + 3));
        }
    }

    #[tokio::test]
    async fn one_that_stays_undecided_ends_so() {
        let (reason, count) =
            called(&["AUDIT_PENDING", "AUDIT_UNREACHABLE"], usize::MAX, true, Duration::from_secs(3)).await;
        assert_eq!(reason, "AUDIT_PENDING");
        assert!(count > 1);
    }

    #[tokio::test]
    async fn what_was_not_done_for_certain_is_tried_again_also_without_a_request_id() {
        let outcome = called(&["AUDIT_UNREACHABLE"], 2, false, Duration::from_secs(20)).await;
        assert_eq!(outcome, (String::new(), 3));
    }

    #[tokio::test]
    async fn what_a_service_has_begun_is_made_again_with_a_request_id_alone() {
        for (pushback, repeatable, count) in
            [("-1", false, 1), ("-1", true, 2), ("never", false, 1), ("0", false, 2), ("250", false, 2)]
        {
            let outcome = called_with(|_| pushed_back(pushback), 1, repeatable, Duration::from_secs(20)).await;
            let reason = if count == 1 { "SHUTTING_DOWN" } else { "" };
            assert_eq!(outcome, (reason.into(), count), "{pushback} {repeatable}");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_tried_at_the_next_address_also_without_a_request_id() {
        let nobody = || Connection::new("127.0.0.1:1", Pem::default());
        let endpoint = Endpoint::new("keystore", vec![nobody(), nobody()]);
        let count = AtomicUsize::new(0);
        let call = |channel: Channel| {
            count.fetch_add(1, Ordering::Relaxed);
            let request = GetCallerIdentityRequest::default();
            async move { SessionServiceClient::new(channel).get_caller_identity(request).await }
        };
        let outcome = endpoint.call(call, Instant::now() + Duration::from_secs(20), false, None).await;
        assert_eq!(outcome.unwrap_err().reason, "UNREACHABLE");
        assert_eq!(count.into_inner(), 2 * ROUNDS);
    }

    #[tokio::test]
    async fn one_without_a_request_id_is_made_once() {
        let outcome = called(&["CHANGE_UNDECIDED"], usize::MAX, false, Duration::from_secs(5)).await;
        assert_eq!(outcome, ("CHANGE_UNDECIDED".into(), 1));
    }
}
