//! Calls to another service of the mesh, over a connection of HTTP/2 and mTLS.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::framing::{PREFIX, is_one_message};
use crate::headers::{GRPC, TIMEOUT, is_grpc};
use crate::status::{MESSAGE, OK, STATUS, percent_decoded};

const CONNECT: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const CANCELLED: u8 = 1;
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
    /// Nobody answered.
    pub fn unavailable(why: impl std::fmt::Display) -> Self {
        Self { code: UNAVAILABLE, message: why.to_string(), trailers: Box::default() }
    }

    /// Nobody did in time.
    pub fn overdue() -> Self {
        Self { code: DEADLINE_EXCEEDED, message: "it was not answered in time".to_owned(), trailers: Box::default() }
    }

    /// The connection was given up.
    pub fn cancelled() -> Self {
        Self { code: CANCELLED, message: "the connection was given up".to_owned(), trailers: Box::default() }
    }
}

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// As many bytes as an answer has at most.
    pub answer_bytes: usize,
    /// How long nothing may be heard until the other side is asked whether it is there.
    pub keepalive: Duration,
    /// Whether it is asked while no call is under way.
    pub while_idle: bool,
}

/// A service, at the other end of a connection.
#[derive(Clone)]
pub struct Remote {
    sender: SendRequest<Full<Bytes>>,
    authority: Authority,
    answer_bytes: usize,
}

impl Remote {
    /// Connects to an address, `host:port`, whose certificate has to hold for that host. Answers with what has to run for
    /// as long as the connection lives.
    pub async fn connect(
        address: &str,
        tls: Arc<ClientConfig>,
        terms: Terms,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let (host, _port) = address.rsplit_once(':').ok_or_else(|| io::Error::other("an address needs a port"))?;
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let authority = Authority::try_from(address).map_err(io::Error::other)?;
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
                .keep_alive_interval(terms.keepalive)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(terms.while_idle);
            builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
        };
        let (sender, connection) = tokio::time::timeout(CONNECT, connecting).await??;
        let running = async move {
            // Why it ended is told by the calls on it.
            let _ = connection.await;
        };
        Ok((Self { sender, authority, answer_bytes: terms.answer_bytes }, running))
    }

    /// Whether it takes no calls any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it takes a call. Whether it does.
    pub async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Calls the method at a path with metadata and a message, framed. Answers the message that comes back with OK, or
    /// why none did before the deadline.
    pub async fn call(
        mut self,
        path: &str,
        metadata: HeaderMap,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failed> {
        let answered = self.answered(path, metadata, message, deadline);
        tokio::time::timeout_at(deadline.into(), answered).await.unwrap_or_else(|_| Err(Failed::overdue()))
    }

    async fn answered(
        &mut self,
        path: &str,
        metadata: HeaderMap,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failed> {
        self.sender.ready().await.map_err(Failed::unavailable)?;
        let request = self.request(path, metadata, message, deadline).map_err(Failed::unavailable)?;
        let response = self.sender.send_request(request).await.map_err(Failed::unavailable)?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Failed::unavailable(head.status));
        }
        let collected = Limited::new(body, self.answer_bytes).collect().await;
        let collected = collected.map_err(|error: Broken| Failed::unavailable(error))?;
        let trailers = collected.trailers().cloned();
        outcome(trailers.unwrap_or(head.headers), collected.to_bytes())
    }

    fn request(
        &self,
        path: &str,
        metadata: HeaderMap,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let uri =
            Uri::builder().scheme(Scheme::HTTPS).authority(self.authority.clone()).path_and_query(path).build()?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let mut request = Request::post(uri).body(Full::new(message))?;
        let headers = request.headers_mut();
        *headers = metadata;
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(TIMEOUT, HeaderValue::try_from(format!("{left}m"))?);
        Ok(request)
    }
}

/// What the trailing metadata and the body of an answer say. Only a whole message and OK are a success.
fn outcome(trailers: HeaderMap, body: Bytes) -> Result<Bytes, Failed> {
    let code = trailers.get(STATUS).and_then(|code| code.to_str().ok()).and_then(|code| code.parse().ok());
    match code {
        Some(OK) if is_one_message(&body) => Ok(body.slice(PREFIX..)),
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
        let message = Bytes::from_static(b"\0\0\0\0\x01x");
        assert_eq!(outcome(ended("0"), message.clone()).unwrap(), "x");
        let bad = [
            (ended("0"), message.slice(..5)),
            (ended("0"), Bytes::new()),
            (HeaderMap::new(), message.clone()),
            (ended("x"), message.clone()),
        ];
        for (trailers, body) in bad {
            assert_eq!(outcome(trailers, body).unwrap_err().code, UNAVAILABLE);
        }
        let refused = outcome(ended("3"), message).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (3, "a b"));
    }
}
