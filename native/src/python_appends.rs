//! What Python sees of the way into the audit log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::prelude::*;

use crate::appends::{Appends, Entry, Told, pythons};
use crate::client::Failed;
use crate::python::{PyReady, after, metadata, runtime};
use crate::queue::Bounds;
use crate::tls::{Files, Paths};

/// How much is under way.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    group_events: usize,
    group_bytes: usize,
    groups: usize,
    waiting: usize,
    waiting_bytes: usize,
}

struct Callbacks {
    settled: Py<PyAny>,
    given_back: Py<PyAny>,
}

impl Callbacks {
    fn call(py: Python<'_>, one: &Py<PyAny>, arguments: impl for<'py> pyo3::call::PyCallArgs<'py>) {
        if let Err(error) = one.call1(py, arguments) {
            error.write_unraisable(py, None);
        }
    }
}

impl Told for Callbacks {
    fn settled(&self, py: Python<'_>, all: Vec<Py<PyAny>>) {
        Self::call(py, &self.settled, (all,));
    }

    fn given_back(&self, py: Python<'_>, all: Vec<Py<PyAny>>, why: Option<Failed>) {
        let told = why.map(|failed| {
            let trailers = metadata(py, &failed.trailers).map(|made| made.into_any().unbind());
            (failed.code, failed.message, trailers.unwrap_or_else(|_| py.None()))
        });
        Self::call(py, &self.given_back, (all, told));
    }
}

/// The way into the audit log, past Python's own threads while that is open.
#[pyclass(name = "Appends", module = "strongroom_native", frozen)]
pub struct PyAppends(Arc<Appends>);

#[pymethods]
impl PyAppends {
    #[new]
    fn new(
        path: String,
        tls: Paths,
        settings: Bound<'_, PyAny>,
        settled: Py<PyAny>,
        given_back: Py<PyAny>,
    ) -> PyResult<Self> {
        let settings: Settings = settings.extract()?;
        let bounds = Bounds {
            events: settings.group_events,
            bytes: settings.group_bytes,
            waiting: settings.waiting,
            held: settings.waiting_bytes,
        };
        let told = Box::new(Callbacks { settled, given_back });
        let (files, handle) = (Files::of_client(tls)?, runtime()?.handle().clone());
        Ok(Self(Appends::new(path, bounds, settings.groups, files, told, handle)))
    }

    /// Connects to an address, unless it is or does so already, by the files as they are now.
    fn open(&self, address: &str) {
        self.0.open(address);
    }

    /// Whether it takes events.
    #[getter]
    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Has events sent: a serialized request to append them, which `entry` stands for and which has to be durable in so
    /// many seconds; so many bytes more are held until then. Then `ready` leaves, or without one `settled` is told. False
    /// where it takes none now.
    #[pyo3(signature = (entry, payer, request, events, seconds, held = 0, ready = None))]
    #[allow(clippy::too_many_arguments)]
    fn append(
        &self,
        entry: Py<PyAny>,
        payer: &str,
        request: &[u8],
        events: usize,
        seconds: f64,
        held: usize,
        ready: Option<&Bound<'_, PyReady>>,
    ) -> bool {
        let ready = ready.and_then(|ready| ready.get().take());
        let held = held + request.len();
        let deadline = after(seconds);
        let request = Bytes::copy_from_slice(request);
        self.0.append(payer, Entry { request, events, held, deadline, python: entry, ready }).is_ok()
    }

    /// Takes no more events until it is opened again. Answers what stands for those that have not been sent, in groups.
    fn close(&self) -> Vec<Vec<Py<PyAny>>> {
        self.0.close().into_iter().map(pythons).collect()
    }

    /// The same for good; waits so many seconds at most for what has been sent.
    fn stop(&self, py: Python<'_>, seconds: f64) -> Vec<Vec<Py<PyAny>>> {
        let left = py.detach(|| self.0.stop(Duration::try_from_secs_f64(seconds).unwrap_or_default()));
        left.into_iter().map(pythons).collect()
    }
}
