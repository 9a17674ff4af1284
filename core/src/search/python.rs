//! The Python face of the search.

use pyo3::prelude::*;

use super::{Candidate, CandidateLeg, Searcher};
use crate::pools::account::Pubkey;
use crate::pools::python::PyPool;

/// One leg of a found cycle.
#[pyclass(frozen, get_all, name = "CandidateLeg", module = "pipeline._core")]
pub struct PyCandidateLeg {
    pool_id: u32,
    pool: String,
    a_to_b: bool,
    amount_in: u64,
    amount_out: u64,
    price_impact_bps: f64,
}

#[pymethods]
impl PyCandidateLeg {
    fn __repr__(&self) -> String {
        let direction = if self.a_to_b { "a->b" } else { "b->a" };
        format!(
            "CandidateLeg({} {direction}, {} -> {})",
            self.pool, self.amount_in, self.amount_out
        )
    }
}

/// A cycle that brings more than it takes and costs.
#[pyclass(frozen, get_all, name = "Candidate", module = "pipeline._core")]
pub struct PyCandidate {
    token: String,
    amount_in: u64,
    amount_out: u64,
    cost: u64,
    legs: Vec<Py<PyCandidateLeg>>,
}

#[pymethods]
impl PyCandidate {
    /// What is left after costs.
    #[getter]
    fn net_profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in) - i128::from(self.cost)
    }

    fn __repr__(&self) -> String {
        format!(
            "Candidate({}, {} -> {}, {} legs)",
            self.token,
            self.amount_in,
            self.amount_out,
            self.legs.len()
        )
    }
}

/// Holds pools and finds cycles among them.
#[pyclass(name = "Searcher", module = "pipeline._core")]
pub struct PySearcher(Searcher);

#[pymethods]
impl PySearcher {
    #[new]
    fn new(settlement: Vec<String>) -> PyResult<Self> {
        let tokens = settlement
            .iter()
            .map(|token| Pubkey::parse(token))
            .collect::<Result<_, _>>()?;
        Ok(Self(Searcher::new(tokens)))
    }

    fn upsert(&mut self, py: Python<'_>, pool_id: u32, pool: PyRef<'_, PyPool>) {
        let pool = pool.0.clone();
        py.detach(|| self.0.upsert(pool_id, pool));
    }

    fn remove(&mut self, pool_id: u32) -> bool {
        self.0.remove(pool_id)
    }

    fn set_limits(&mut self, token: &str, max_amount_in: u64, cost_in_token: u64) -> PyResult<()> {
        self.0
            .set_limits(Pubkey::parse(token)?, max_amount_in, cost_in_token);
        Ok(())
    }

    #[pyo3(signature = (changed = None))]
    fn search(&mut self, py: Python<'_>, changed: Option<Vec<u32>>) -> PyResult<Vec<PyCandidate>> {
        py.detach(|| self.0.search(changed.as_deref()))
            .into_iter()
            .map(|candidate| to_python(py, candidate))
            .collect()
    }

    /// Directed cycles looked at by the last search.
    #[getter]
    fn examined(&self) -> u64 {
        self.0.examined
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

fn to_python(py: Python<'_>, candidate: Candidate) -> PyResult<PyCandidate> {
    let leg = |leg: CandidateLeg| {
        Py::new(
            py,
            PyCandidateLeg {
                pool_id: leg.pool_id,
                pool: leg.pool.to_string(),
                a_to_b: leg.a_to_b,
                amount_in: leg.amount_in,
                amount_out: leg.amount_out,
                price_impact_bps: leg.price_impact_bps,
            },
        )
    };
    Ok(PyCandidate {
        token: candidate.token.to_string(),
        amount_in: candidate.amount_in,
        amount_out: candidate.amount_out,
        cost: candidate.cost,
        legs: candidate
            .legs
            .into_iter()
            .map(leg)
            .collect::<PyResult<_>>()?,
    })
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySearcher>()?;
    module.add_class::<PyCandidate>()?;
    module.add_class::<PyCandidateLeg>()?;
    Ok(())
}
