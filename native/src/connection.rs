//! Connections: how they come, how long they stay, and what they may say.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::callers::{network, stranger};
use crate::core::{Core, Phase};
use crate::serve::serve;
use crate::tasks::Tasks;
use crate::tls::{ServerFiles, spiffe_id};
use crate::turns::Caller;

/// The client's preface and its first, empty settings.
const PREFACE_BYTES: u64 = 24 + 9;
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 256 << 10;
const SEND_BUFFER: usize = 64 << 10;
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(1);
/// How long the other side may take to go when it is told to.
const GOING: Duration = Duration::from_secs(5);
/// How long its calls may take then, where it went on for long enough.
const GRACE: Duration = Duration::from_secs(60);
const NO_ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may wait to be taken.
const UNTAKEN: Duration = Duration::from_secs(30);
/// What a connection may say beside messages: at first, and for each call.
const NOISE_BYTES: u64 = 4 << 20;
const NOISE_CALL_BYTES: u64 = 32 << 10;
/// Calls that it may take back, besides as many as it lets be answered, and for each second.
const RESETS: u64 = 200;
const RESETS_A_SECOND: u64 = 10;

/// The other side of a connection.
pub struct Peer {
    /// As gRPC writes it: `ipv4:127.0.0.1:51234`.
    pub name: String,
    /// Whose its calls are that come without a credential which is known.
    pub stranger: Arc<Caller>,
    /// That of its certificate, which TLS has verified; empty without one.
    pub spiffe_id: String,
    /// Likewise.
    pub certificate: Option<CertificateDer<'static>>,
    began: Instant,
    open: AtomicUsize,
    idle_since_ms: AtomicU64,
    untaken: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
    read: AtomicU64,
    earned: AtomicU64,
    resets: AtomicU64,
    answers: AtomicU64,
    is_unruly: AtomicBool,
    way: Notify,
}

impl Peer {
    fn new(address: SocketAddr, certificate: Option<CertificateDer<'static>>) -> Self {
        let ip = address.ip().to_canonical();
        let name = if ip.is_ipv4() {
            format!("ipv4:{ip}:{}", address.port())
        } else {
            format!("ipv6:%5B{ip}%5D:{}", address.port())
        };
        Self {
            stranger: Arc::new(stranger(ip, &name)),
            name,
            spiffe_id: certificate.as_ref().map(spiffe_id).unwrap_or_default(),
            certificate,
            began: Instant::now(),
            open: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(0),
            untaken: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
            read: AtomicU64::new(0),
            earned: AtomicU64::new(NOISE_BYTES),
            resets: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            is_unruly: AtomicBool::new(false),
            way: Notify::new(),
        }
    }

    /// One call more.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.earn(NOISE_CALL_BYTES);
    }

    /// One call less.
    pub fn closed(&self, untaken: Option<u64>) {
        if let Some(number) = untaken {
            self.untaken.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        self.idle_since_ms.store(self.age_ms(), Ordering::Release);
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// A call was answered, with so many bytes. What stands for it while they wait to be taken.
    pub fn answered(&self, bytes: usize) -> Option<u64> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        // For what a client says of what it has taken.
        self.earn(bytes as u64 / 256);
        // However few there are: a connection may have many calls, and an address many connections.
        if bytes == 0 {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Instant::now());
        Some(number)
    }

    /// A call was taken back before it was answered.
    pub fn reset(&self) {
        let resets = self.resets.fetch_add(1, Ordering::Relaxed) + 1;
        let allowed = RESETS + RESETS_A_SECOND * self.began.elapsed().as_secs();
        if resets > allowed + self.answers.load(Ordering::Relaxed) {
            self.is_unruly.store(true, Ordering::Release);
        }
    }

    /// So many bytes of what it says are no noise.
    pub fn earn(&self, bytes: u64) {
        self.earned.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The connection is cut: others need its place.
    pub fn gives_way(&self) {
        self.way.notify_one();
    }

    fn heard(&self, bytes: usize) -> io::Result<()> {
        let read = self.read.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if read > self.earned.load(Ordering::Relaxed) || self.is_unruly.load(Ordering::Acquire) {
            return Err(io::Error::other("more is said than calls need"));
        }
        Ok(())
    }

    /// For how long nothing was asked; None while something is.
    pub fn idle(&self) -> Option<Duration> {
        if self.open.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(Duration::from_millis(self.age_ms().saturating_sub(self.idle_since_ms.load(Ordering::Acquire))))
    }

    fn takes_nothing(&self) -> bool {
        let untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        untaken.values().next().is_some_and(|since| since.elapsed() > UNTAKEN)
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Takes connections for as long as the listener serves.
pub async fn accept(core: Arc<Core>, listener: TcpListener, tls: Option<ServerFiles>) {
    let mut phases = core.phases();
    while core.phase() == Phase::Serving {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phases.changed() => continue,
        };
        match accepted {
            Ok((socket, address)) => take(&core, socket, address, tls.clone()),
            // Of this connection, or no file is left to open: then a moment passes, or this would go round and round.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(NO_ROOM_PAUSE).await,
        }
    }
}

fn take(core: &Arc<Core>, socket: TcpStream, address: SocketAddr, tls: Option<ServerFiles>) {
    let from: Arc<str> = network(address.ip()).into();
    let ticket = core.number();
    let (placed, has_place) = tokio::sync::oneshot::channel();
    let making = tokio::spawn({
        let (core, from) = (core.clone(), from.clone());
        async move {
            // Nothing begins before it has a place to leave.
            if has_place.await.is_err() {
                return;
            }
            let made = make(&core, socket, tls).await;
            core.handshakes.leave(ticket);
            let Some((made, certificate)) = made else { return };
            let peer = Arc::new(Peer::new(address, certificate));
            let Some(connected) = core.connected(&from, &peer) else { return };
            // A task of its own, which no place among handshakes stands for.
            tokio::spawn(async move {
                let _connected = connected;
                match made {
                    Made::Plain(stream) => attend(&core, stream, peer).await,
                    Made::Tls(stream) => attend(&core, stream, peer).await,
                }
            });
        }
    });
    if let Some(displaced) = core.handshakes.enter(ticket, &from, making.abort_handle()) {
        displaced.abort();
    }
    let _ = placed.send(());
}

enum Made {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// TLS, in time, and the other side's certificate.
async fn make(
    core: &Core,
    socket: TcpStream,
    tls: Option<ServerFiles>,
) -> Option<(Made, Option<CertificateDer<'static>>)> {
    socket.set_nodelay(true).ok()?;
    let Some(tls) = tls else { return Some((Made::Plain(socket), None)) };
    let accepting = TlsAcceptor::from(tls.current()).accept(socket);
    let stream = tokio::time::timeout(seconds(core.settings.handshake_seconds), accepting).await.ok()?.ok()?;
    let (_, session) = stream.get_ref();
    session.alpn_protocol()?;
    let certificate =
        session.peer_certificates().and_then(|chain| chain.first()).cloned().map(CertificateDer::into_owned);
    Some((Made::Tls(Box::new(stream)), certificate))
}

async fn attend<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(core: &Arc<Core>, stream: S, peer: Arc<Peer>) {
    let settings = &core.settings;
    let service = service_fn(|request| serve(core, &peer, request));
    let mut builder = Builder::new(Tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(settings.header_bytes)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .auto_date_header(false);
    let io = TokioIo::new(Heard { stream, peer: peer.clone() });
    let mut serving = pin!(builder.serve_connection(io, service));
    let handshake = seconds(settings.handshake_seconds);
    let mut phases = core.phases();
    let mut looks = tokio::time::interval(LOOK.min(handshake / 2).max(Duration::from_millis(10)));
    let mut leaves: Option<Instant> = (core.phase() != Phase::Serving).then(|| Instant::now() + GOING);
    if leaves.is_some() {
        serving.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = peer.way.notified() => return,
            _ = phases.changed() => {
                if core.phase() == Phase::Ended {
                    return;
                }
                serving.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                let is_silent = peer.read.load(Ordering::Relaxed) < PREFACE_BYTES && peer.began.elapsed() > handshake;
                let is_late = leaves.is_some_and(|moment| Instant::now() > moment);
                if is_silent || is_late || peer.takes_nothing() || peer.is_unruly.load(Ordering::Acquire) {
                    return;
                }
                let going = if peer.idle().is_some_and(|idle| idle > seconds(settings.idle_seconds)) {
                    Some(GOING)
                } else if peer.began.elapsed() > seconds(settings.age_seconds) {
                    Some(GRACE)
                } else {
                    None
                };
                if let (None, Some(going)) = (leaves, going) {
                    serving.as_mut().graceful_shutdown();
                    leaves = Some(Instant::now() + going);
                }
            }
        }
    }
}

/// A stream, of which it is counted how much is read.
struct Heard<S> {
    stream: S,
    peer: Arc<Peer>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            return Poll::Ready(self.peer.heard(buffer.filled().len() - before));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}
