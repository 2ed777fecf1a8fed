//! gRPC's messages on a stream of HTTP/2: a byte that says whether they are compressed, four that say how long they are.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::connection::Peer;

/// Of what stands before a message, in bytes.
pub const PREFIX: usize = 5;

/// Why there is no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The stream ended before one began.
    Missing,
    /// It ended within one, or says what no message begins with.
    Malformed,
    /// The message says that it is compressed.
    Compressed,
    /// It is announced with more bytes than may come.
    TooLarge,
    /// The stream was reset, or its connection is gone.
    Gone,
}

/// Reads messages one by one.
pub struct Messages<B = Incoming> {
    body: B,
    peer: Arc<Peer>,
    kept: BytesMut,
    limit: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    /// Of a request, each of so many bytes at most.
    pub fn new(body: B, peer: Arc<Peer>, limit: usize) -> Self {
        Self { body, peer, kept: BytesMut::new(), limit }
    }

    /// The next message, once it is whole. What is read of it so far stays when nobody waits any more.
    pub async fn next(&mut self) -> Result<Bytes, Wrong> {
        loop {
            if let Some(length) = announced(&self.kept, self.limit)? {
                if self.kept.len() >= PREFIX + length {
                    self.kept.advance(PREFIX);
                    return Ok(self.kept.split_to(length).freeze());
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.peer.earn(data.len() as u64 + data.len() as u64 / 16);
                        match self.whole(data)? {
                            Ok(message) => return Ok(message),
                            Err(part) => self.kept.extend_from_slice(&part),
                        }
                    }
                }
                Some(Err(_)) => return Err(Wrong::Gone),
                None if self.kept.is_empty() => return Err(Wrong::Missing),
                None => return Err(Wrong::Malformed),
            }
        }
    }

    /// Waits until the caller says that there is no more, or says more than it may, or is gone.
    pub async fn finish(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        while let Some(Ok(frame)) = self.body.frame().await {
            if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                return;
            }
        }
    }

    /// A message that came in one piece, as most do: its bytes are not copied.
    fn whole(&self, mut data: Bytes) -> Result<Result<Bytes, Bytes>, Wrong> {
        if self.kept.is_empty() && announced(&data, self.limit)? == Some(data.len().saturating_sub(PREFIX)) {
            data.advance(PREFIX);
            return Ok(Ok(data));
        }
        Ok(Err(data))
    }
}

/// How long the message is that begins here, once that is there.
fn announced(data: &[u8], limit: usize) -> Result<Option<usize>, Wrong> {
    let Some(&compressed) = data.first() else { return Ok(None) };
    match compressed {
        0 => {}
        1 => return Err(Wrong::Compressed),
        _ => return Err(Wrong::Malformed),
    }
    let Some(length) = data.get(1..PREFIX).and_then(|four| <[u8; 4]>::try_from(four).ok()) else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit { Err(Wrong::TooLarge) } else { Ok(Some(length)) }
}

/// Whether this is one message as it travels, and nothing besides.
pub fn is_one_message(data: &[u8]) -> bool {
    matches!(announced(data, usize::MAX), Ok(Some(length)) if data.len() - PREFIX == length)
}

/// What stands before a message of so many bytes.
pub fn prefix(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// A message as it travels.
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.extend_from_slice(&prefix(message.len()));
    framed.extend_from_slice(message);
    framed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_known_as_soon_as_they_are_there() {
        assert_eq!(announced(b"", 10), Ok(None));
        assert_eq!(announced(b"\0\0\0\0", 10), Ok(None));
        assert_eq!(announced(b"\0\0\0\0\x0a", 10), Ok(Some(10)));
        assert_eq!(announced(b"\0\xff\0\0\x0b", 10), Err(Wrong::TooLarge));
        assert_eq!(announced(b"\x01", 10), Err(Wrong::Compressed));
        assert_eq!(announced(b"\x02", 10), Err(Wrong::Malformed));
    }

    #[test]
    fn messages_are_framed() {
        assert_eq!(&framed(b"ab")[..], b"\0\0\0\0\x02ab");
        assert!(is_one_message(&framed(b"ab")) && is_one_message(&framed(b"")));
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\x01\0\0\0\x01a"] {
            assert!(!is_one_message(wrong));
        }
    }
}
