//! The Python face of pools.

use std::sync::Arc;

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::account::{Account, Pubkey};
use super::error::{QuoteError as Failure, Refused};
use super::venue::Family;
use super::{Clock, Movement, Order, Pool, snapshot};

create_exception!(
    pipeline._core,
    PoolRefused,
    PyValueError,
    "Accounts that are not a pool which can be quoted exactly."
);
create_exception!(
    pipeline._core,
    QuoteError,
    PyValueError,
    "A swap of this size would fail on chain."
);

fn raise<E: pyo3::PyTypeInfo>(reason: &'static str, message: String) -> PyErr {
    Python::attach(|py| {
        let error = py.get_type::<E>().call1((message,));
        match error {
            Ok(error) => match error.setattr("reason", reason) {
                Ok(()) => PyErr::from_value(error),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        }
    })
}

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        raise::<PoolRefused>(refused.reason, refused.to_string())
    }
}

impl From<Failure> for PyErr {
    fn from(error: Failure) -> Self {
        raise::<QuoteError>(error.reason, error.to_string())
    }
}

/// An account as it comes from Python: address, owner, data, and where it is known the balance in lamports.
#[derive(FromPyObject, IntoPyObject)]
pub enum RawAccount<'py> {
    Plain((String, String, Bound<'py, PyBytes>)),
    Whole((String, String, Bound<'py, PyBytes>, u64)),
}

impl<'py> RawAccount<'py> {
    fn read(self) -> Result<Account, Refused> {
        let (address, owner, data, lamports) = match self {
            Self::Plain((address, owner, data)) => (address, owner, data, 0),
            Self::Whole(account) => account,
        };
        Ok(Account {
            address: Pubkey::parse(&address)?,
            owner: Pubkey::parse(&owner)?,
            data: data.as_bytes().into(),
            lamports,
        })
    }

    /// In the form in which it was given.
    fn of(py: Python<'py>, account: &Account) -> Self {
        let (address, owner) = (account.address.to_string(), account.owner.to_string());
        let data = PyBytes::new(py, &account.data);
        match account.lamports {
            0 => Self::Plain((address, owner, data)),
            lamports => Self::Whole((address, owner, data, lamports)),
        }
    }
}

/// What a swap would move.
#[pyclass(frozen, name = "PoolQuote", module = "pipeline._core")]
#[derive(Clone)]
pub struct PyPoolQuote(Movement);

#[pymethods]
impl PyPoolQuote {
    #[getter]
    fn amount_in(&self) -> u64 {
        self.0.amount_in
    }

    #[getter]
    fn amount_out(&self) -> u64 {
        self.0.amount_out
    }

    #[getter]
    fn fee_amount(&self) -> u64 {
        self.0.fee_amount
    }

    #[getter]
    fn price_before(&self) -> f64 {
        self.0.price_before
    }

    #[getter]
    fn price_after(&self) -> f64 {
        self.0.price_after
    }

    #[getter]
    fn price_impact_bps(&self) -> f64 {
        self.0.price_impact_bps()
    }

    #[getter]
    fn sqrt_price_after(&self) -> u128 {
        self.0.sqrt_price_after
    }

    #[getter]
    fn ticks_crossed(&self) -> u32 {
        self.0.ticks_crossed
    }

    fn __repr__(&self) -> String {
        format!(
            "PoolQuote(amount_in={}, amount_out={}, fee_amount={}, price_impact_bps={:.4})",
            self.0.amount_in,
            self.0.amount_out,
            self.0.fee_amount,
            self.0.price_impact_bps()
        )
    }
}

/// A pool at one moment.
#[pyclass(frozen, name = "Pool", module = "pipeline._core")]
#[derive(Clone)]
pub struct PyPool(pub Arc<Pool>);

#[pymethods]
impl PyPool {
    /// Read a pool from `(address, owner, data)` or `(address, owner, data, lamports)` accounts.
    #[staticmethod]
    #[pyo3(signature = (protocol, address, accounts, slot, write_version, unix_time))]
    fn parse(
        py: Python<'_>,
        protocol: i64,
        address: &str,
        accounts: Vec<RawAccount<'_>>,
        slot: u64,
        write_version: u64,
        unix_time: i64,
    ) -> PyResult<Self> {
        let Some(family) = u8::try_from(protocol).ok().and_then(Family::of) else {
            return Err(Refused {
                reason: "unknown_protocol",
                detail: format!("protocol {protocol} is not one that can be quoted"),
            }
            .into());
        };
        let address = Pubkey::parse(address)?;
        let accounts = accounts
            .into_iter()
            .map(RawAccount::read)
            .collect::<Result<Vec<_>, _>>()?;
        let clock = Clock {
            slot,
            write_version,
            unix_time,
        };
        let pool = py.detach(|| Pool::parse(family, address, accounts, clock))?;
        Ok(Self(Arc::new(pool)))
    }

    /// Read a pool back from its snapshot.
    #[staticmethod]
    fn from_snapshot(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        Ok(Self(Arc::new(py.detach(|| snapshot::read(data))?)))
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &snapshot::write(&self.0)?))
    }

    #[getter]
    fn address(&self) -> String {
        self.0.address.to_string()
    }

    #[getter]
    fn protocol(&self) -> u8 {
        self.0.venue.protocol() as u8
    }

    #[getter]
    fn token_a(&self) -> String {
        self.0.mints().0.to_string()
    }

    #[getter]
    fn token_b(&self) -> String {
        self.0.mints().1.to_string()
    }

    #[getter]
    fn slot(&self) -> u64 {
        self.0.clock.slot
    }

    #[getter]
    fn write_version(&self) -> u64 {
        self.0.clock.write_version
    }

    #[getter]
    fn unix_time(&self) -> i64 {
        self.0.clock.unix_time
    }

    /// The same state at another moment: what the next swap's time-dependent parts go by.
    fn at(&self, slot: u64, write_version: u64, unix_time: i64) -> Self {
        let mut pool = Pool::clone(&self.0);
        pool.clock = Clock {
            slot,
            write_version,
            unix_time,
        };
        Self(Arc::new(pool))
    }

    #[pyo3(signature = (a_to_b, amount_in, sqrt_price_limit = 0))]
    fn quote_in(
        &self,
        a_to_b: bool,
        amount_in: u64,
        sqrt_price_limit: u128,
    ) -> PyResult<PyPoolQuote> {
        Ok(PyPoolQuote(self.0.quote(Order {
            a_to_b,
            amount: amount_in,
            exact_in: true,
            sqrt_price_limit,
        })?))
    }

    #[pyo3(signature = (a_to_b, amount_out, sqrt_price_limit = 0))]
    fn quote_out(
        &self,
        a_to_b: bool,
        amount_out: u64,
        sqrt_price_limit: u128,
    ) -> PyResult<PyPoolQuote> {
        Ok(PyPoolQuote(self.0.quote(Order {
            a_to_b,
            amount: amount_out,
            exact_in: false,
            sqrt_price_limit,
        })?))
    }

    /// Swap an exact amount in (or out): the pool after it, and what moved.
    #[pyo3(signature = (a_to_b, amount, sqrt_price_limit = 0, exact_in = true))]
    fn swap(
        &self,
        py: Python<'_>,
        a_to_b: bool,
        amount: u64,
        sqrt_price_limit: u128,
        exact_in: bool,
    ) -> PyResult<(Self, PyPoolQuote)> {
        let order = Order {
            a_to_b,
            amount,
            exact_in,
            sqrt_price_limit,
        };
        let (pool, movement) = py.detach(|| self.0.swap(order))?;
        Ok((Self(Arc::new(pool)), PyPoolQuote(movement)))
    }

    /// The raw accounts in the form in which they were given, with every swap since `parse` written into them.
    fn accounts<'py>(&self, py: Python<'py>) -> PyResult<Vec<RawAccount<'py>>> {
        let Some(accounts) = &self.0.accounts else {
            return Err(Refused {
                reason: "no_accounts",
                detail: "a pool from a snapshot has no raw accounts".into(),
            }
            .into());
        };
        Ok(accounts
            .iter()
            .map(|account| RawAccount::of(py, account))
            .collect())
    }

    /// Lamports per unit of a staked token as (numerator, denominator), where the pool is a stake pool.
    fn fair_rate(&self) -> Option<(u64, u64)> {
        self.0.venue.fair_rate()
    }

    /// What a small amount of a staked token brings at once, after fees, as (numerator, denominator).
    fn unstake_rate(&self) -> Option<(u128, u128)> {
        self.0.venue.unstake_rate(self.0.clock)
    }

    /// What the quotes go by, by name, as integers and strings.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
        super::info::describe(py, &self.0)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0.address == other.0.address
            && self.0.clock == other.0.clock
            && *self.0.venue == *other.0.venue
    }

    fn __repr__(&self) -> String {
        format!(
            "Pool({} {}, slot {})",
            self.0.family().name,
            self.0.address,
            self.0.clock.slot
        )
    }
}

/// Add the classes and exceptions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<PyPool>()?;
    module.add_class::<PyPoolQuote>()?;
    module.add("PoolRefused", py.get_type::<PoolRefused>())?;
    module.add("QuoteError", py.get_type::<QuoteError>())?;
    Ok(())
}
