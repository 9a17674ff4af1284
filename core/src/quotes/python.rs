//! The Python face of grids.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::{Row, grid};
use crate::pools::python::PyPool;

/// A row as Python sees it: (a_to_b, index, amount_in, amount_out, fee_amount, price_impact_bps).
type PyRow = (bool, u32, u64, u64, u64, f64);

impl From<&Row> for PyRow {
    fn from(row: &Row) -> Self {
        (
            row.a_to_b,
            row.index,
            row.amount_in,
            row.amount_out,
            row.fee_amount,
            row.price_impact_bps,
        )
    }
}

impl From<PyRow> for Row {
    fn from((a_to_b, index, amount_in, amount_out, fee_amount, price_impact_bps): PyRow) -> Self {
        Self {
            a_to_b,
            index,
            amount_in,
            amount_out,
            fee_amount,
            price_impact_bps,
        }
    }
}

/// What a pool gives for every amount of a list, in both directions: rows of (a_to_b, index, amount_in, amount_out,
/// fee_amount, price_impact_bps). An amount out of 0 means that the pool cannot give it.
#[pyclass(frozen, eq, name = "Grid", module = "pipeline._core")]
#[derive(PartialEq)]
pub struct PyGrid {
    pub rows: Vec<Row>,
}

#[pymethods]
impl PyGrid {
    /// Make a grid of rows that are known already: read from a message, or of other sources.
    #[staticmethod]
    fn of(rows: &Bound<'_, PyAny>) -> PyResult<Self> {
        let rows = rows
            .try_iter()?
            .map(|row| row?.extract::<PyRow>().map(Row::from))
            .collect::<PyResult<Vec<_>>>()?;
        if rows.iter().any(|row| !row.price_impact_bps.is_finite()) {
            return Err(PyValueError::new_err("a price impact is a finite number"));
        }
        Ok(Self { rows })
    }

    /// Return what comes out for an amount of the list in one direction; 0 where the pool cannot give it.
    fn amount_out(&self, a_to_b: bool, index: u32) -> PyResult<u64> {
        self.rows
            .iter()
            .find(|row| row.a_to_b == a_to_b && row.index == index)
            .map(|row| row.amount_out)
            .ok_or_else(|| PyIndexError::new_err(index))
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<PyRow> {
        let at = if index < 0 {
            index + self.rows.len().cast_signed()
        } else {
            index
        };
        usize::try_from(at)
            .ok()
            .and_then(|at| self.rows.get(at))
            .map(PyRow::from)
            .ok_or_else(|| PyIndexError::new_err(index))
    }

    fn __iter__(slf: Py<Self>) -> PyRows {
        PyRows { grid: slf, next: 0 }
    }

    fn __repr__(&self) -> String {
        let given = self.rows.iter().filter(|row| row.amount_out > 0).count();
        format!("Grid({} rows, {given} given)", self.rows.len())
    }
}

/// An iteration over a grid.
#[pyclass(name = "GridRows", module = "pipeline._core")]
pub struct PyRows {
    grid: Py<PyGrid>,
    next: usize,
}

#[pymethods]
impl PyRows {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self) -> Option<PyRow> {
        let row = self.grid.get().rows.get(self.next).map(PyRow::from);
        self.next += 1;
        row
    }
}

/// Quote every amount with every pool, in both directions, each pool from its one state; without the GIL.
#[pyfunction]
fn quote_grids(
    py: Python<'_>,
    pools: Vec<PyRef<'_, PyPool>>,
    amounts: Vec<u64>,
) -> PyResult<Vec<PyGrid>> {
    if u32::try_from(amounts.len()).is_err() {
        return Err(PyValueError::new_err("too many amounts"));
    }
    let pools: Vec<_> = pools.iter().map(|pool| pool.0.clone()).collect();
    Ok(py.detach(|| {
        pools
            .iter()
            .map(|pool| PyGrid {
                rows: grid(pool, &amounts),
            })
            .collect()
    }))
}

/// Add the classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyGrid>()?;
    module.add_class::<PyRows>()?;
    module.add_function(wrap_pyfunction!(quote_grids, module)?)?;
    Ok(())
}
