//! What Python sees: a listener, and its calls.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::appends::Ready;
use crate::call::{Call, Outcome, Waiting};
use crate::connection::accept;
use crate::core::{Core, Endings, Lasting, Method, Rooms, Settings, Threads};
use crate::framing::framed;
use crate::headers::{Heard, said};
use crate::room::{Answer, Room};
use crate::serve::accepts_identity;
use crate::status::{BINARY, Ending, OK, encoded};
use crate::tls::{ClientCertificate, Files, Paths, ServerFiles};
use crate::turns::{Bounds, Caller};

const MOST_RUNTIME_THREADS: usize = 2;
const BACKLOG: u32 = 1_024;
const END: Duration = Duration::from_secs(2);
const UNKNOWN: u8 = 2;

/// When so many seconds are over; at once where no clock goes as far.
pub fn after(seconds: f64) -> Instant {
    let now = Instant::now();
    Duration::try_from_secs_f64(seconds).ok().and_then(|left| now.checked_add(left)).unwrap_or(now)
}

/// What everything in this process runs on that is not Python's.
pub fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.min(MOST_RUNTIME_THREADS);
        let built = Builder::new_multi_thread().worker_threads(threads).thread_name("listener").enable_all().build();
        built.map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|error| PyRuntimeError::new_err(error.clone()))
}

/// How a call ends, from Python: a status code, a message and trailing metadata.
#[derive(FromPyObject)]
struct Said(u8, String, Vec<(String, Value)>);

#[derive(FromPyObject)]
enum Value {
    #[pyo3(transparent)]
    Text(String),
    #[pyo3(transparent)]
    Binary(Vec<u8>),
}

impl Said {
    fn into_ending(self) -> PyResult<Ending> {
        let pairs = self.2.into_iter().map(|(name, value)| pair(&name, &value)).collect::<PyResult<_>>()?;
        Ok(Ending::new(self.0, &self.1, pairs))
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct AllSaid {
    overloaded: Said,
    incomplete: Said,
    stopping: Said,
    stopped: Said,
    malformed: Said,
    missing: Said,
    too_large: Said,
    compressed: Said,
    unknown: Said,
    overdue: Said,
    broken: Said,
}

impl AllSaid {
    fn into_endings(self) -> PyResult<Endings> {
        Ok(Endings {
            overloaded: self.overloaded.into_ending()?,
            incomplete: self.incomplete.into_ending()?,
            stopping: self.stopping.into_ending()?,
            stopped: self.stopped.into_ending()?,
            malformed: self.malformed.into_ending()?,
            missing: self.missing.into_ending()?,
            fine: Ending::new(OK, "", Vec::new()),
            too_large: self.too_large.into_ending()?,
            compressed: self.compressed.into_ending()?.with(accepts_identity()),
            unknown: self.unknown.into_ending()?,
            overdue: self.overdue.into_ending()?,
            broken: self.broken.into_ending()?,
        })
    }
}

/// The threads of one kind.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Kind {
    threads: usize,
    share: usize,
    costly_share: usize,
    waiting: usize,
    waiting_bytes: usize,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Kinds {
    known: Kind,
    strangers: Kind,
    exchanges: Kind,
    reserved: Kind,
    at_once: Kind,
}

/// Addresses on which connections are taken, and what answers their calls.
#[pyclass(name = "Listener", module = "strongroom_native", frozen)]
pub struct PyListener {
    core: Arc<Core>,
    methods: Mutex<HashMap<String, Arc<Method>>>,
    bound: Mutex<Vec<(TcpListener, Option<ServerFiles>)>>,
}

#[pymethods]
impl PyListener {
    #[new]
    fn new(
        name: &str,
        settings: Settings,
        kinds: Bound<'_, PyDict>,
        endings: Bound<'_, PyDict>,
        recognize: Py<PyAny>,
    ) -> PyResult<Self> {
        let kinds: Kinds = kinds.extract()?;
        let said: AllSaid = endings.extract()?;
        let endings = said.into_endings()?;
        let handle = runtime()?.handle();
        let core = Arc::new_cyclic(|core: &std::sync::Weak<Core>| {
            let core = core.clone();
            let answer: Answer = Arc::new(move |py, waiting| {
                if let Some(core) = core.upgrade() {
                    answer_one(py, &core, &recognize, waiting);
                }
            });
            let room = |what: &str, kind: &Kind| {
                let bounds = Bounds {
                    share: kind.share,
                    costly_share: kind.costly_share,
                    waiting: kind.waiting,
                    waiting_bytes: kind.waiting_bytes,
                };
                Room::new(format!("{name}-{what}"), kind.threads, bounds, answer.clone(), handle.clone())
            };
            let threads = Threads {
                known: room("known", &kinds.known),
                strangers: room("strangers", &kinds.strangers),
                exchanges: room("exchanges", &kinds.exchanges),
                reserved: room("reserved", &kinds.reserved),
                at_once: room("at-once", &kinds.at_once),
            };
            Core::new(settings, endings, threads)
        });
        Ok(Self { core, methods: Mutex::new(HashMap::new()), bound: Mutex::new(Vec::new()) })
    }

    /// Has `answer` called with each call of a method, in threads of a `room`: `by caller`, `exchanges`, `reserved` or
    /// `at once`. Calls that last are of a `lasting` kind: `watch`, or `exchange` for message after message.
    /// Where the method is for `only` some SPIFFE ids, others are refused so by their headers.
    #[pyo3(signature = (path, answer, *, room, lasting = None, only = None))]
    fn add(
        &self,
        path: String,
        answer: Py<PyAny>,
        room: &str,
        lasting: Option<&str>,
        only: Option<(HashSet<String>, Said)>,
    ) -> PyResult<()> {
        let room = match room {
            "by caller" => Rooms::ByCaller,
            "exchanges" => Rooms::Exchanges,
            "reserved" => Rooms::Reserved,
            "at once" => Rooms::AtOnce,
            other => return Err(PyValueError::new_err(format!("there is no room {other}"))),
        };
        let lasting = match lasting {
            None => None,
            Some("watch") => Some(Lasting::Watch),
            Some("exchange") => Some(Lasting::Exchange),
            Some(other) => return Err(PyValueError::new_err(format!("no calls last as {other}"))),
        };
        let only = only.map(|(ids, said)| PyResult::Ok((ids, said.into_ending()?))).transpose()?;
        lock(&self.methods).insert(path, Arc::new(Method { answer, room, lasting, only }));
        Ok(())
    }

    /// Listens on an address, with TLS from the PEM files of a certificate, its key and whom to trust. Clients show a
    /// certificate: `none`, `optional` or `required`. Raises `OSError`.
    #[pyo3(signature = (address, *, tls = None, client_certificate = "none", shared = false))]
    fn bind(&self, address: &str, tls: Option<Paths>, client_certificate: &str, shared: bool) -> PyResult<()> {
        let client = match client_certificate {
            "none" => ClientCertificate::None,
            "optional" => ClientCertificate::Optional,
            "required" => ClientCertificate::Required,
            other => return Err(PyValueError::new_err(format!("client certificates cannot be {other}"))),
        };
        let files = tls.map(|paths| Files::of_server(paths, client).map(Arc::new)).transpose()?;
        let _entered = runtime()?.enter();
        for address in std::net::ToSocketAddrs::to_socket_addrs(address)? {
            lock(&self.bound).push((listening(address, shared)?, files.clone()));
        }
        Ok(())
    }

    /// Begins to serve.
    fn start(&self) -> PyResult<()> {
        let methods = std::mem::take(&mut *lock(&self.methods));
        self.core.methods.set(methods).map_err(|_| PyRuntimeError::new_err("it has been started"))?;
        let runtime = runtime()?;
        for (listener, files) in lock(&self.bound).drain(..) {
            runtime.spawn(accept(self.core.clone(), listener, files));
        }
        runtime.spawn(self.core.clone().sweep());
        Ok(())
    }

    /// Takes no more connections and calls, and ends what would last.
    fn drain(&self, py: Python<'_>) {
        // Whoever never started listens all the same.
        lock(&self.bound).clear();
        py.detach(|| self.core.drain());
    }

    /// Waits until no call is open any more, for so many seconds at most. Whether none is.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        py.detach(|| self.core.wait(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }

    /// Ends what is not answered yet, cuts connections and ends the threads.
    fn end(&self, py: Python<'_>) {
        py.detach(|| self.core.end(END));
    }
}

fn listening(address: SocketAddr, shared: bool) -> PyResult<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Without being told to, a second mesh on the same ports would silently share them.
    socket.set_reuseport(shared)?;
    socket.bind(address).map_err(PyOSError::new_err)?;
    Ok(socket.listen(BACKLOG)?)
}

fn answer_one(py: Python<'_>, core: &Arc<Core>, recognize: &Py<PyAny>, waiting: &Waiting) {
    let call = &waiting.call;
    if !call.is_active() {
        return;
    }
    let seen = match Py::new(py, PyCall { call: call.clone(), metadata: OnceLock::new() }) {
        Ok(seen) => seen,
        Err(error) => {
            error.write_unraisable(py, None);
            call.refuse(&core.endings.broken);
            return;
        }
    };
    if let Err(error) = call.method.answer.call1(py, (&seen,)) {
        error.write_unraisable(py, None);
        call.refuse(&core.endings.broken);
    }
    if let (Some(key), true) = (call.whose.key, call.whose.is_stale) {
        let found =
            recognize.call1(py, (&seen,)).and_then(|found| found.bind(py).extract::<Option<(String, String)>>());
        match found {
            Ok(found) => core.callers.learn(
                key,
                found.map(|(group, member)| Caller { group: group.into(), member: member.into(), known: true }),
            ),
            Err(error) => error.write_unraisable(py, None),
        }
    }
}

/// One call, whose message is whole.
#[pyclass(name = "Call", module = "strongroom_native", frozen)]
pub struct PyCall {
    call: Arc<Call>,
    metadata: OnceLock<Py<PyTuple>>,
}

#[pymethods]
impl PyCall {
    /// Takes the message: None where it was taken, or the call has ended.
    fn message<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.call.take().map(|message| PyBytes::new(py, &message))
    }

    /// The metadata: names and values, which are bytes where the name ends in `-bin`.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        if let Some(made) = self.metadata.get() {
            return Ok(made.bind(py).clone());
        }
        let made = metadata(py, &self.call.headers)?;
        let _ = self.metadata.set(made.clone().unbind());
        Ok(made)
    }

    /// As gRPC writes it: `ipv4:127.0.0.1:51234`.
    #[getter]
    fn peer(&self) -> &str {
        &self.call.peer.name
    }

    /// That of the connection's certificate, which TLS has verified; empty without one.
    #[getter]
    fn spiffe_id(&self) -> &str {
        &self.call.peer.spiffe_id
    }

    /// The connection's verified certificate, DER; None without one.
    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.call.peer.certificate.as_ref().map(|certificate| PyBytes::new(py, certificate))
    }

    /// Whose the call is, as far as its headers tell: a group, a member of it, and whether they are known.
    #[getter]
    fn caller(&self) -> (&str, &str, bool) {
        let caller = &self.call.whose.caller;
        (&caller.group, &caller.member, caller.known)
    }

    /// How long the caller still waits; None where it would for ever.
    fn seconds_left(&self) -> Option<f64> {
        let deadline = self.call.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Whether the caller still listens.
    fn is_active(&self) -> bool {
        self.call.is_active()
    }

    /// An answer for `Appends` to send.
    fn ready(&self, message: &[u8], trailers: &Bound<'_, PyAny>) -> PyResult<PyReady> {
        let ending = Ending::new(OK, "", pairs(trailers)?);
        Ok(PyReady::new(&self.call, Outcome::Answer(framed(message), ending.into_trailers())))
    }

    /// An error likewise.
    fn ready_to_fail(&self, code: u8, message: &str, trailers: &Bound<'_, PyAny>) -> PyResult<PyReady> {
        let code = if code == OK { UNKNOWN } else { code };
        let trailers = Ending::new(code, message, pairs(trailers)?).into_trailers();
        Ok(PyReady::new(&self.call, Outcome::Ending(trailers)))
    }

    /// Ends the call with an answer; nothing where it has ended.
    fn answer(&self, message: &[u8], trailers: &Bound<'_, PyAny>) -> PyResult<()> {
        let ending = Ending::new(OK, "", pairs(trailers)?);
        self.call.decide(Outcome::Answer(framed(message), ending.into_trailers()));
        Ok(())
    }

    /// Ends the call with an error, `after` so many seconds; nothing where it has ended.
    #[pyo3(signature = (code, message, trailers, after = 0.0))]
    fn fail(&self, code: u8, message: &str, trailers: &Bound<'_, PyAny>, after: f64) -> PyResult<()> {
        // An error that says it is none would let a caller take nothing for an answer.
        let code = if code == OK { UNKNOWN } else { code };
        let trailers = Ending::new(code, message, pairs(trailers)?).into_trailers();
        match Duration::try_from_secs_f64(after) {
            Ok(pause) if !pause.is_zero() => self.call.decide(Outcome::Later(trailers, pause)),
            _ => self.call.end(trailers),
        };
        Ok(())
    }

    /// Sends one message of several; waits while the caller takes nothing. False where the call has ended.
    fn send(&self, py: Python<'_>, message: &[u8]) -> bool {
        let message = framed(message);
        let outbox = self.call.open();
        let sent = py.detach(|| outbox.send(message));
        self.call.told.notify_waiters();
        sent
    }

    /// Sends a message of a kind of which only the newest matters, in place of the one before where that has not left.
    fn offer(&self, message: &[u8]) {
        self.call.open().offer(framed(message));
    }

    /// Ends a call of several messages.
    fn finish(&self, trailers: &Bound<'_, PyAny>) -> PyResult<()> {
        let trailers = Ending::new(OK, "", pairs(trailers)?).into_trailers();
        self.call.open().end(trailers);
        Ok(())
    }

    /// Ends a call of several messages at once, whatever its caller has taken of them, and tells nothing.
    fn cut(&self) {
        self.call.cut();
    }

    /// Has `tell` called when the call ends, however that may be. False where it has ended.
    fn on_end(&self, tell: Py<PyAny>) -> bool {
        self.call.on_end(tell)
    }
}

/// An answer that waits until its call's events are durable.
#[pyclass(name = "Ready", module = "strongroom_native", frozen)]
pub struct PyReady(Mutex<Option<Ready>>);

impl PyReady {
    fn new(call: &Arc<Call>, outcome: Outcome) -> Self {
        Self(Mutex::new(Some(Ready { call: call.clone(), outcome })))
    }

    /// Takes it; whoever comes later has nothing.
    pub fn take(&self) -> Option<Ready> {
        lock(&self.0).take()
    }
}

/// Headers as Python has metadata: names and values, which are bytes where the name ends in `-bin`.
pub fn metadata<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyTuple>> {
    let pairs: Vec<_> = said(headers)
        .map(|(name, value)| {
            let value = match value {
                Heard::Text(text) => PyString::new(py, text).into_any(),
                Heard::Binary(bytes) => PyBytes::new(py, &bytes).into_any(),
            };
            (PyString::new(py, name), value)
        })
        .collect();
    PyTuple::new(py, pairs)
}

/// Metadata of Python as headers.
pub fn pairs(trailers: &Bound<'_, PyAny>) -> PyResult<Vec<(HeaderName, HeaderValue)>> {
    trailers
        .try_iter()?
        .map(|one| {
            let (name, value): (String, Value) = one?.extract()?;
            pair(&name, &value)
        })
        .collect()
}

fn pair(name: &str, value: &Value) -> PyResult<(HeaderName, HeaderValue)> {
    let wrong = || PyValueError::new_err(format!("{name} is no trailing metadata"));
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let value = match value {
        Value::Text(text) if !name.ends_with(BINARY) => HeaderValue::from_str(text).ok(),
        Value::Binary(bytes) if name.ends_with(BINARY) => encoded(bytes),
        _ => None,
    };
    Ok((header, value.ok_or_else(wrong)?))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
