//! What a pool's quotes go by, for people and tests.

use pyo3::conversion::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Pool;

/// Collects named figures.
pub struct Info<'py> {
    figures: Bound<'py, PyDict>,
    failure: Option<PyErr>,
}

impl<'py> Info<'py> {
    /// Name a figure: anything that Python has a type for.
    pub fn put(&mut self, name: &str, value: impl IntoPyObjectExt<'py>) -> &mut Self {
        let put = value
            .into_bound_py_any(self.figures.py())
            .and_then(|value| self.figures.set_item(name, value));
        if let Err(failure) = put {
            self.failure.get_or_insert(failure);
        }
        self
    }
}

/// Name the figures of a pool. Rates keep the unit of the program they come from, named in the key.
pub fn describe<'py>(py: Python<'py>, pool: &Pool) -> PyResult<Bound<'py, PyDict>> {
    let mut info = Info {
        figures: PyDict::new(py),
        failure: None,
    };
    info.put("protocol", pool.family().name);
    pool.venue.info(&mut info);
    if let Some(rate) = pool.venue.fair_rate() {
        info.put("fair_rate", rate);
        info.put("unstake_rate", pool.venue.unstake_rate(pool.clock));
    }
    let [a, b] = pool
        .transfer_fees()
        .map(|fee| fee.map(|fee| (fee.basis_points, fee.maximum)));
    info.put("transfer_fees", (a, b));
    match info.failure {
        Some(failure) => Err(failure),
        None => Ok(info.figures),
    }
}
