//! The listener of Strongroom's services: it takes connections, does TLS, HTTP/2 and gRPC's framing, holds callers to
//! their limits, and hands Python whole calls, one after another. What a call may do is Python's to decide. Answers leave
//! when the audit log has their events.

mod answer;
mod appends;
mod call;
mod callers;
mod channel;
mod client;
mod connection;
mod core;
mod dismissals;
mod framing;
mod headers;
mod places;
mod python;
mod python_appends;
mod python_channel;
mod queue;
mod room;
mod serve;
mod status;
mod tasks;
mod tls;
mod turns;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
fn strongroom_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<python::PyListener>()?;
    module.add_class::<python::PyCall>()?;
    module.add_class::<python::PyReady>()?;
    module.add_class::<python_appends::PyAppends>()?;
    module.add_class::<python_channel::PyChannel>()?;
    module.add("VERSION", env!("CARGO_PKG_VERSION"))
}
