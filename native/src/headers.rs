//! What a call's headers say, as gRPC over HTTP/2 has it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::status::{BINARY, decoded};

/// The content type of gRPC.
pub const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Where a caller says for how long it waits.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Names of gRPC's own, which are no metadata.
const RESERVED: [&str; 5] = ["content-type", "te", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"];

/// The value of a pair of metadata.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Of most names.
    Text(&'a str),
    /// Of names that end in `-bin`.
    Binary(Vec<u8>),
}

/// The metadata, pair by pair. What is not written as gRPC has it says nothing.
pub fn said(headers: &HeaderMap) -> impl Iterator<Item = (&str, Heard<'_>)> {
    headers.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())).filter_map(|(name, value)| {
        let name = name.as_str();
        let value = if name.ends_with(BINARY) {
            decoded(value).map(Heard::Binary)
        } else {
            value.to_str().ok().map(Heard::Text)
        };
        value.map(|value| (name, value))
    })
}

/// Whether a content type is gRPC's.
pub fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(GRPC.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// As gRPC over HTTP/2 has `grpc-timeout`: up to eight digits and a unit.
pub fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| timeout(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("10S"), Some(Duration::from_secs(10)));
        assert_eq!(read("1m"), Some(Duration::from_millis(1)));
        assert_eq!(read("99999999H"), Some(LONGEST));
        for text in ["", "S", "1", "-1S", "123456789S", "1x", "1 S", "+1S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_grpc_is_told_by_its_content_type() {
        for text in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_grpc(&HeaderValue::from_static(text)));
        }
        for text in ["application/grpc-web", "text/plain", ""] {
            assert!(!is_grpc(&HeaderValue::from_static(text)));
        }
    }
}
