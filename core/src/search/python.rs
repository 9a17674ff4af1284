//! The Python face of the search. Addresses become strings when they are asked for: most are not.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Candidate, CandidateLeg, MOST_LEGS, MOST_SIZED, Searcher};
use crate::pools::account::Pubkey;
use crate::pools::python::PyPool;

/// One leg of a found cycle.
#[pyclass(frozen, name = "CandidateLeg", module = "pipeline._core")]
pub struct PyCandidateLeg(CandidateLeg);

#[pymethods]
impl PyCandidateLeg {
    #[getter]
    fn pool_id(&self) -> u32 {
        self.0.pool_id
    }

    #[getter]
    fn pool(&self) -> String {
        self.0.pool.to_string()
    }

    #[getter]
    fn a_to_b(&self) -> bool {
        self.0.a_to_b
    }

    #[getter]
    fn amount_in(&self) -> u64 {
        self.0.amount_in
    }

    #[getter]
    fn amount_out(&self) -> u64 {
        self.0.amount_out
    }

    #[getter]
    fn price_impact_bps(&self) -> f64 {
        self.0.price_impact_bps
    }

    fn __repr__(&self) -> String {
        let direction = if self.0.a_to_b { "a->b" } else { "b->a" };
        format!(
            "CandidateLeg({} {direction}, {} -> {})",
            self.0.pool, self.0.amount_in, self.0.amount_out
        )
    }
}

/// A cycle that brings more than it takes and costs.
#[pyclass(frozen, name = "Candidate", module = "pipeline._core")]
pub struct PyCandidate(Candidate);

#[pymethods]
impl PyCandidate {
    #[getter]
    fn token(&self) -> String {
        self.0.token.to_string()
    }

    #[getter]
    fn amount_in(&self) -> u64 {
        self.0.amount_in
    }

    #[getter]
    fn amount_out(&self) -> u64 {
        self.0.amount_out
    }

    #[getter]
    fn cost(&self) -> u64 {
        self.0.cost
    }

    /// The pools in their order, with what each takes and gives.
    #[getter]
    fn legs(&self) -> Vec<PyCandidateLeg> {
        self.0.legs.iter().cloned().map(PyCandidateLeg).collect()
    }

    /// What is left after costs.
    #[getter]
    fn net_profit(&self) -> i128 {
        self.0.net_profit()
    }

    fn __repr__(&self) -> String {
        let ids: Vec<u32> = self.0.legs.iter().map(|leg| leg.pool_id).collect();
        format!(
            "Candidate({}, {} -> {}, pools {ids:?})",
            self.0.token, self.0.amount_in, self.0.amount_out,
        )
    }
}

/// Holds pools and finds cycles among them.
#[pyclass(name = "Searcher", module = "pipeline._core")]
pub struct PySearcher(Searcher);

#[pymethods]
impl PySearcher {
    #[new]
    #[pyo3(signature = (settlement, *, most_legs = MOST_LEGS, most_sized = MOST_SIZED))]
    fn new(settlement: Vec<String>, most_legs: usize, most_sized: usize) -> PyResult<Self> {
        if !(2..=MOST_LEGS).contains(&most_legs) || most_sized == 0 {
            return Err(PyValueError::new_err(format!(
                "cycles have 2 or {MOST_LEGS} legs, and at least one is sized; not {most_legs} and {most_sized}"
            )));
        }
        let tokens = settlement
            .iter()
            .map(|token| Pubkey::parse(token))
            .collect::<Result<_, _>>()?;
        Ok(Self(Searcher::new(tokens, most_legs, most_sized)))
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
    fn search(&mut self, py: Python<'_>, changed: Option<Vec<u32>>) -> Vec<PyCandidate> {
        py.detach(|| self.0.search(changed.as_deref()))
            .into_iter()
            .map(PyCandidate)
            .collect()
    }

    /// Directed cycles that the last search looked at.
    #[getter]
    fn examined(&self) -> u64 {
        self.0.counts.examined
    }

    /// Of these, cycles whose marginal rates pay, so that their best size was looked for.
    #[getter]
    fn sized(&self) -> u64 {
        self.0.counts.sized
    }

    /// Cycles that pay by their rates and were left out of the last search, because more than `most_sized` did.
    #[getter]
    fn left_out(&self) -> u64 {
        self.0.counts.left_out
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySearcher>()?;
    module.add_class::<PyCandidate>()?;
    module.add_class::<PyCandidateLeg>()?;
    Ok(())
}
