//! Calls to another service of the mesh, over a connection of HTTP/2 and mTLS.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::framing::is_one_message;
use crate::headers::{GRPC, TIMEOUT, is_grpc};
use crate::status::{MESSAGE, OK, STATUS, percent_decoded};

const CONNECT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES: usize = 1 << 20;
const DEADLINE_EXCEEDED: u8 = 4;
const UNAVAILABLE: u8 = 14;
/// As `Limited` wants for what goes wrong while it reads.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// How a call ended that was not answered with OK, as gRPC says it.
#[derive(Debug)]
pub struct Failed {
    /// The status code.
    pub code: u8,
    /// The sentence beside it.
    pub message: String,
    /// The trailing metadata.
    pub trailers: Box<HeaderMap>,
}

impl Failed {
    fn unavailable(why: impl std::fmt::Display) -> Self {
        Self { code: UNAVAILABLE, message: why.to_string(), trailers: Box::default() }
    }

    fn overdue() -> Self {
        Self { code: DEADLINE_EXCEEDED, message: "it was not answered in time".to_owned(), trailers: Box::default() }
    }
}

/// One method of a service, at the other end of a connection.
#[derive(Clone)]
pub struct Remote {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
}

impl Remote {
    /// Connects to an address, `host:port`, whose certificate has to hold for that host, and to `path` there. Answers
    /// with what has to run for as long as the connection lives.
    pub async fn connect(
        address: &str,
        path: &str,
        tls: Arc<ClientConfig>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let (host, _port) = address.rsplit_once(':').ok_or_else(|| io::Error::other("an address needs a port"))?;
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let uri = Uri::builder().scheme("https").authority(address).path_and_query(path).build();
        let uri = uri.map_err(io::Error::other)?;
        let connecting = async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let stream = TlsConnector::from(tls).connect(name, socket).await?;
            if stream.get_ref().1.alpn_protocol().is_none() {
                return Err(io::Error::other("it does not speak HTTP/2"));
            }
            let mut builder = Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
        };
        let (sender, connection) = tokio::time::timeout(CONNECT, connecting).await??;
        let running = async move {
            // Why it ended is told by the calls on it.
            let _ = connection.await;
        };
        Ok((Self { sender, uri }, running))
    }

    /// Sends a message, framed, and returns once it was answered with OK, or with why it was not before the deadline.
    pub async fn call(mut self, message: Bytes, deadline: Instant) -> Result<(), Failed> {
        let answered = tokio::time::timeout_at(deadline.into(), self.answered(message, deadline)).await;
        answered.unwrap_or_else(|_| Err(Failed::overdue()))
    }

    async fn answered(&mut self, message: Bytes, deadline: Instant) -> Result<(), Failed> {
        self.sender.ready().await.map_err(Failed::unavailable)?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let request = Request::post(self.uri.clone())
            .header(TE, "trailers")
            .header(CONTENT_TYPE, GRPC)
            .header(TIMEOUT, format!("{left}m"))
            .body(Full::new(message))
            .map_err(Failed::unavailable)?;
        let response = self.sender.send_request(request).await.map_err(Failed::unavailable)?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Failed::unavailable(head.status));
        }
        let collected = Limited::new(body, ANSWER_BYTES).collect().await;
        let collected = collected.map_err(|error: Broken| Failed::unavailable(error))?;
        let trailers = collected.trailers().cloned();
        outcome(trailers.unwrap_or(head.headers), &collected.to_bytes())
    }
}

/// What the trailing metadata and the body of an answer say. Only a whole message and OK are a success.
fn outcome(trailers: HeaderMap, body: &[u8]) -> Result<(), Failed> {
    let code = trailers.get(STATUS).and_then(|code| code.to_str().ok()).and_then(|code| code.parse().ok());
    match code {
        Some(OK) if is_one_message(body) => Ok(()),
        Some(OK) | None => Err(Failed::unavailable("it ended without an answer")),
        Some(code) => {
            let message = trailers.get(MESSAGE).map(percent_decoded).unwrap_or_default();
            Err(Failed { code, message, trailers: Box::new(trailers) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ended(code: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(STATUS, HeaderValue::from_static(code)), (MESSAGE, HeaderValue::from_static("a%20b"))])
    }

    #[test]
    fn only_a_whole_message_and_ok_are_a_success() {
        let message = b"\0\0\0\0\x01x";
        assert!(outcome(ended("0"), message).is_ok());
        let bad = [(ended("0"), &message[..5]), (ended("0"), b""), (HeaderMap::new(), message), (ended("x"), message)];
        for (trailers, body) in bad {
            assert_eq!(outcome(trailers, body).unwrap_err().code, UNAVAILABLE);
        }
        let refused = outcome(ended("3"), message).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (3, "a b"));
    }
}
