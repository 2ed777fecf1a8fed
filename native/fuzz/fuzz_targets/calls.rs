//! What a call says before Python has it: headers, line by line, an empty line, and the bytes of its stream.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/framing.rs"]
mod framing;
#[path = "../../src/headers.rs"]
mod headers;
#[path = "../../src/status.rs"]
mod status;

/// What reading a stream asks of a connection.
mod connection {
    pub struct Peer;

    impl Peer {
        pub fn earn(&self, _bytes: u64) {}
    }
}

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use libfuzzer_sys::fuzz_target;

use framing::{Messages, Wrong};
use headers::Heard;

const LIMIT: usize = 1 << 10;
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// The messages of a stream that comes in pieces of so many bytes, and why there is no other.
fn read(stream: &[u8], piece: usize) -> (Vec<Bytes>, Wrong) {
    let pieces = stream.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
    let mut messages = Messages::new(Pieces(pieces), Arc::new(connection::Peer), LIMIT);
    let mut found = Vec::new();
    loop {
        let Poll::Ready(next) = pin!(messages.next()).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a stream that is there is waited for");
        };
        match next {
            Ok(message) => found.push(message),
            Err(wrong) => return (found, wrong),
        }
    }
}

fn check_stream(stream: &[u8]) {
    let whole = read(stream, usize::MAX);
    for piece in [1, 2, 5, 7, 64] {
        assert_eq!(whole, read(stream, piece), "what comes in pieces of {piece} is something else");
    }
    let (messages, wrong) = whole;
    assert!(messages.iter().all(|message| message.len() <= LIMIT));
    assert_ne!(wrong, Wrong::Gone);
    let again: Vec<u8> = messages.iter().flat_map(|message| framing::framed(message)).collect();
    assert!(stream.starts_with(&again), "messages are not what was sent");
    // Only where nothing is left over is nothing wrong.
    assert_eq!(wrong == Wrong::Missing, again.len() == stream.len());
    if stream.len() <= LIMIT {
        assert_eq!(framing::is_one_message(stream), messages.len() == 1 && wrong == Wrong::Missing);
    }
}

fn check_headers(headers: &HeaderMap) {
    let mut heard = 0;
    for (name, value) in headers::said(headers) {
        heard += 1;
        assert!(!["te", "grpc-timeout", "grpc-encoding", "content-type"].contains(&name));
        match value {
            Heard::Text(text) => {
                assert!(!name.ends_with(status::BINARY));
                assert!(text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
            }
            Heard::Binary(bytes) => {
                assert!(name.ends_with(status::BINARY));
                let again = status::encoded(&bytes).expect("bytes can be written");
                assert_eq!(status::decoded(&again), Some(bytes));
            }
        }
    }
    assert!(heard <= headers.len());
    for value in headers.values() {
        check_value(value);
    }
}

fn check_value(value: &HeaderValue) {
    if let Some(timeout) = headers::timeout(value) {
        assert!(timeout <= YEAR && (2..=9).contains(&value.len()));
    }
    assert!(!headers::is_grpc(value) || value.as_bytes().starts_with(b"application/grpc"));
    let text = status::percent_decoded(value);
    let ending = status::Ending::new(1, &text, Vec::new()).into_trailers();
    if let Some(said) = ending.get(status::MESSAGE) {
        assert_eq!(status::percent_decoded(said), text);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let mut headers = HeaderMap::new();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    check_headers(&headers);
    check_stream(rest);
});
