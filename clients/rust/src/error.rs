//! The one error of the client, and how it is read from a failed call.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::Duration;

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

const DOMAIN: &str = "strongroom";
const EVENT_ID: &str = "strongroom-event-id";
/// How long a service asks to wait before a call is made again; negative of one that it may have begun.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A call that was refused or failed, or something that the client itself refuses.
///
/// `reason` is what programs match on (`KEY_DISABLED`, `MESSAGE_ALTERED`); it is stable. `message` is a sentence for a
/// person and never holds a secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Error {
    /// The stable reason.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// The status code; of what the client refuses, the one that a service would use.
    pub code: Code,
    /// The request's field that is at fault; empty where none is.
    pub field: String,
    /// What the reason defines besides.
    pub metadata: HashMap<String, String>,
    /// The audit event of the call; empty where there is none.
    pub event_id: String,
    /// The trace of the call, 32 hex digits; empty where there was no call.
    pub trace_id: String,
    /// How long the service asks to wait; zero where it does not say.
    pub retry_after: Duration,
    /// Whether it is certain that nothing was done: the call was not sent, or the service says so.
    pub(crate) is_undone: bool,
}

impl Error {
    /// A refusal of the client's own, or of what stands in the place of one.
    pub fn new(reason: &str, message: impl Into<String>, code: Code, field: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            code,
            field: field.to_owned(),
            metadata: HashMap::new(),
            event_id: String::new(),
            trace_id: String::new(),
            retry_after: Duration::ZERO,
            is_undone: false,
        }
    }

    /// Whether another time may do better: nobody could serve now, which is no answer.
    pub fn is_away(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
    }

    /// Whether what was asked was done, or may have been: the same request with the same id answers what it made.
    pub(crate) fn may_stand(&self) -> bool {
        matches!(self.reason.as_str(), "AUDIT_PENDING" | "CHANGE_UNDECIDED")
    }

    /// The error within one of a stream of [`crate::encryption`].
    pub fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(crate) fn no_random() -> Self {
        Self::new("RANDOM_UNAVAILABLE", "the operating system gives no random bytes", Code::Unavailable, "")
    }

    pub(crate) fn invalid(reason: &str, message: impl Into<String>, field: &str) -> Self {
        Self::new(reason, message, Code::InvalidArgument, field)
    }

    /// What a failed call means; `peer` says which service, at which address, where it gave no reason.
    pub(crate) fn of_status(status: &Status, peer: &str, trace_id: &str) -> Self {
        let details = status.get_error_details();
        let mut error = match details.error_info() {
            Some(info) if info.domain == DOMAIN => {
                let mut metadata = info.metadata.clone();
                let field = metadata.remove("field").unwrap_or_default();
                let said = Self::new(&info.reason, status.message(), status.code(), &field);
                let is_undone = said.code == Code::Unavailable && !said.may_stand() && !may_have_begun(status);
                Self { metadata, is_undone, ..said }
            }
            _ => Self::without_reason(status, peer),
        };
        error.retry_after = details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        error.event_id = status.metadata().get(EVENT_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        trace_id.clone_into(&mut error.trace_id);
        error
    }

    pub(crate) fn not_in_time(peer: &str, trace_id: &str) -> Self {
        let message = format!("{peer} did not answer in time");
        Self { trace_id: trace_id.to_owned(), ..Self::new("DEADLINE_EXCEEDED", message, Code::DeadlineExceeded, "") }
    }

    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    fn without_reason(status: &Status, peer: &str) -> Self {
        match status.code() {
            // No service says CANCELLED: it is of a call that was not handed over when the server stopped. UNKNOWN with
            // a cause is a connection that broke.
            Code::Unavailable | Code::Cancelled => {
                let message = format!("{peer} cannot be reached: {}", cause(status));
                Self { is_undone: was_not_sent(status), ..Self::new("UNREACHABLE", message, Code::Unavailable, "") }
            }
            Code::Unknown if std::error::Error::source(status).is_some() => {
                let message = format!("{peer} cannot be reached: {}", cause(status));
                Self::new("UNREACHABLE", message, Code::Unavailable, "")
            }
            Code::DeadlineExceeded => Self::not_in_time(peer, ""),
            code => Self::new(name_of(code), format!("{peer}: {}", status.message()), code, ""),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Of a stream that ended: calls make their own, which says at which address.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::of_status(&status, "the service", "")
    }
}

/// Whether there was no connection to send a call by.
fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether a service that refuses a call may have begun it.
fn may_have_begun(status: &Status) -> bool {
    let Some(pushback) = status.metadata().get(PUSHBACK) else { return false };
    // gRPC takes for "never again" also what it cannot read.
    pushback.to_str().ok().and_then(|text| text.parse::<u64>().ok()).is_none()
}

/// The innermost cause says what happened; those around it only that something did.
fn cause(status: &Status) -> String {
    let mut innermost = std::error::Error::source(status);
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    innermost.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// The name of a code, as gRPC writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
