//! What a venue is to the rest of the crate, and the list of them.
//!
//! A venue is one module: a type that implements [`Venue`] and a constant [`Family`]. Nothing outside of the module
//! knows it but its line in [`FAMILIES`] and its number in [`Protocol`].

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use ruint::aliases::U256;

use super::account::{Account, Pubkey};
use super::error::{QuoteError, Refused};
use super::info::Info;
use super::snapshot::{Reader, Writer};
use super::token::TransferFee;
use super::{Clock, Movement, Order};

/// Every venue that pools are read from.
pub const FAMILIES: &[Family] = &[
    super::whirlpool::FAMILY,
    super::raydium_v4::FAMILY,
    super::raydium_cpmm::FAMILY,
    super::raydium_clmm::FAMILY,
    super::meteora_dlmm::FAMILY,
    super::meteora_damm_v2::FAMILY,
    super::spl_stake_pool::FAMILY,
    super::marinade::FAMILY,
];

/// Program family of a pool, numbered as in the schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Whirlpool = 1,
    RaydiumV4 = 2,
    RaydiumCpmm = 3,
    RaydiumClmm = 4,
    MeteoraDlmm = 5,
    MeteoraDammV2 = 6,
    SplStakePool = 7,
    Marinade = 8,
}

/// A pool that was read, or why not.
pub type Parsed = Result<Arc<dyn Venue>, Refused>;

/// How pools of one venue are read.
pub struct Family {
    pub protocol: Protocol,
    pub name: &'static str,
    /// Read a pool from its accounts, or refuse. No account is given twice.
    pub parse: fn(Pubkey, &[Account], Clock) -> Parsed,
    /// Read back what [`Venue::write`] wrote, mints of tokens a and b given, and check it as accounts are checked.
    pub read: fn(&mut Reader<'_>, [Pubkey; 2]) -> Parsed,
    /// Accounts of small pools at [`super::testing::POOL`] that the mutation test starts from.
    #[cfg(test)]
    pub samples: fn() -> Vec<Vec<Account>>,
}

impl Family {
    /// The family of a schema number, where pools of it can be read.
    pub fn of(number: u8) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|family| family.protocol as u8 == number)
    }
}

/// What the swaps of one pool depend on. Values do not change: a swap makes another.
pub trait Venue: Equal + Debug + Send + Sync {
    fn protocol(&self) -> Protocol;

    /// Mints of tokens a and b.
    fn mints(&self) -> (Pubkey, Pubkey);

    /// Compute a swap without changing anything. The amount is not 0.
    fn quote(&self, order: Order, clock: Clock) -> Result<Movement, QuoteError>;

    /// Compute a swap and the pool after it; write it into the accounts, as the program does, where there are any.
    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError>;

    /// What the next unit given brings after the pool's fees, before those of token transfers, as a fraction of
    /// (taken, given), both parts at most 2^228: now, or within a swap that has come as far as `after`.
    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, clock: Clock) -> (U256, U256);

    /// What one unit of token a stands for in units of token b, as a fraction, where the venue itself says so: lamports
    /// per unit of a staked token.
    fn fair_rate(&self) -> Option<(u64, u64)> {
        None
    }

    /// What a small amount of a staked token brings at once, after fees, as a fraction like [`Venue::fair_rate`]; none
    /// where it cannot be had now.
    fn unstake_rate(&self, _clock: Clock) -> Option<(u128, u128)> {
        None
    }

    /// The most that a swap takes whole, where the pool knows that sooner than by trying.
    fn capacity(&self, _a_to_b: bool, _clock: Clock) -> Option<u64> {
        None
    }

    /// Transfer fees of tokens a and b.
    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        [None, None]
    }

    /// Write all that quotes and swaps depend on, but the mints.
    fn write(&self, out: &mut Writer);

    /// Name the figures that the quotes go by.
    fn info(&self, out: &mut Info<'_>);
}

/// Comparison of venues behind a pointer; any venue with `==` has it.
pub trait Equal: Any {
    fn equal(&self, other: &dyn Venue) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Venue + PartialEq + 'static> Equal for T {
    fn equal(&self, other: &dyn Venue) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl PartialEq for dyn Venue {
    fn eq(&self, other: &Self) -> bool {
        self.equal(other)
    }
}

impl Eq for dyn Venue {}
