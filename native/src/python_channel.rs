//! What Python sees of a connection to another service of the mesh.

use std::sync::Arc;

use http::HeaderMap;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::channel::Channel;
use crate::framing::framed;
use crate::python::{after, metadata, pairs, runtime};
use crate::tls::client_of;

/// One connection at a time to a service of the mesh, over mTLS.
#[pyclass(name = "Channel", module = "strongroom_native", frozen)]
pub struct PyChannel(Arc<Channel>);

#[pymethods]
impl PyChannel {
    /// To `host:port`, by a certificate chain, its key and whom to trust, all PEM. Connects when it is called.
    #[new]
    fn new(address: String, certificate: &[u8], key: &[u8], trust: &[u8]) -> PyResult<Self> {
        let tls = client_of([certificate, key, trust])?;
        Ok(Self(Channel::new(address, Arc::new(tls), runtime()?.handle().clone())))
    }

    /// Calls the method at a path, and waits so many seconds at most. Answers the message that comes back; or with a
    /// status code, a sentence and trailing metadata. Raises `ValueError` where it was closed.
    fn call<'py>(
        &self,
        py: Python<'py>,
        path: &str,
        message: &[u8],
        seconds: f64,
        headers: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.0.is_closed() {
            return Err(PyValueError::new_err("the channel is closed"));
        }
        let headers: HeaderMap = pairs(headers)?.into_iter().collect();
        let deadline = after(seconds);
        let (message, runtime) = (framed(message), runtime()?);
        match py.detach(|| runtime.block_on(self.0.call(path, headers, message, deadline))) {
            Ok(answer) => Ok(PyBytes::new(py, &answer).into_any()),
            Err(failed) => {
                let trailers = metadata(py, &failed.trailers)?;
                Ok((failed.code, failed.message, trailers).into_pyobject(py)?.into_any())
            }
        }
    }

    /// Ends the connection; calls on it end as cancelled.
    fn close(&self) {
        self.0.close();
    }
}
