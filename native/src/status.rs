//! How a call ends, as gRPC says it in headers.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Where the status code is said.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Where the sentence beside it is.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The end of names whose values are bytes.
pub const BINARY: &str = "-bin";

/// gRPC's status codes, as far as this crate says them by itself.
pub const OK: u8 = 0;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The end of a call: its status, and what is told beside it.
#[derive(Clone, Debug)]
pub struct Ending {
    trailers: HeaderMap,
}

impl Ending {
    /// An end with a status code and a message for a person; `pairs` are names and encoded values.
    pub fn new(code: u8, message: &str, pairs: Vec<(HeaderName, HeaderValue)>) -> Self {
        let mut trailers = HeaderMap::with_capacity(pairs.len() + 2);
        trailers.insert(STATUS, HeaderValue::from(u16::from(code)));
        if !message.is_empty() {
            trailers.insert(MESSAGE, percent_encoded(message));
        }
        for (name, value) in pairs {
            trailers.append(name, value);
        }
        Self { trailers }
    }

    /// The same, with one pair more.
    pub fn with(mut self, (name, value): (HeaderName, HeaderValue)) -> Self {
        self.trailers.append(name, value);
        self
    }

    /// As trailing metadata.
    pub fn into_trailers(self) -> HeaderMap {
        self.trailers
    }

    /// Likewise, of an end that many calls have.
    pub fn trailers(&self) -> HeaderMap {
        self.trailers.clone()
    }
}

/// A value of a name that ends in `-bin`.
pub fn encoded(value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_str(&STANDARD_NO_PAD.encode(value)).ok()
}

/// What such a value says; padding may be there or not.
pub fn decoded(value: &HeaderValue) -> Option<Vec<u8>> {
    LENIENT.decode(value.as_bytes()).ok()
}

/// As gRPC over HTTP/2 has `grpc-message`.
fn percent_encoded(text: &str) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    HeaderValue::from_bytes(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What such a message says; what is not written so stands for itself.
pub fn percent_decoded(value: &HeaderValue) -> String {
    let mut rest = value.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        if let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("a 100% ü\n"), "a 100%25 %C3%BC%0A");
        assert_eq!(percent_decoded(&percent_encoded("a 100% ü\n")), "a 100% ü\n");
        for text in ["%", "%4", "%zz"] {
            assert_eq!(percent_decoded(&HeaderValue::from_static(text)), text);
        }
    }

    #[test]
    fn binary_values_are_read_with_and_without_padding() {
        for text in ["AQ", "AQ=="] {
            assert_eq!(decoded(&HeaderValue::from_static(text)), Some(vec![1]));
        }
        assert_eq!(decoded(&HeaderValue::from_static("*")), None);
        assert_eq!(encoded(&[1]), Some(HeaderValue::from_static("AQ")));
    }
}
