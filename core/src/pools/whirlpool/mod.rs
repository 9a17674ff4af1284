//! Orca Whirlpool: concentrated liquidity.

pub mod adaptive;
pub mod layout;
mod patch;
#[cfg(test)]
mod samples;
mod step;
pub mod swap;
pub mod tick_math;
mod venue;

pub use self::venue::FAMILY;

use std::sync::Arc;

use self::adaptive::Adaptive;
use self::layout::{Kind, PROGRAM, Tick};
use self::tick_math::{MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price_of_tick};
use super::account::{self, Account, Pubkey};
use super::error::{QuoteError, Refused, refuse};
use super::token::TransferFee;
use super::{Clock, Movement, Order, concentrated};

/// Everything a Whirlpool's swaps depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whirlpool {
    pub tick_spacing: u16,
    /// Hundredths of a basis point.
    pub fee_rate: u16,
    /// Share of the fee, basis points.
    pub protocol_fee_rate: u16,
    pub liquidity: u128,
    pub sqrt_price: u128,
    pub tick: i32,
    pub mint_a: Pubkey,
    pub mint_b: Pubkey,
    /// Initialized ticks of all tick arrays, in order. No swap changes them.
    pub ticks: Arc<[Tick]>,
    pub transfer_fee_a: Option<TransferFee>,
    pub transfer_fee_b: Option<TransferFee>,
    /// Present where the fee moves with volatility.
    pub adaptive: Option<Adaptive>,
}

impl Whirlpool {
    /// Read a pool from its account, its tick arrays and, optionally, its vaults and mints.
    ///
    /// A tick array that is not among the accounts is taken not to exist on chain: the program itself lets a swap
    /// pass such an array as one without ticks.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let program = Pubkey::parse(PROGRAM)?;
        let pool = account::find(accounts, address, "pool")?;
        if pool.owner != program {
            return refuse(
                "wrong_owner",
                format!("{address} is owned by {}, not by Whirlpool", pool.owner),
            );
        }
        if layout::kind_of(&pool.data) != Kind::Pool {
            return refuse(
                "wrong_discriminator",
                format!("{address} is not a Whirlpool account"),
            );
        }
        let fields = layout::read_pool(&pool.data)?;
        let mut adaptive = None;
        if fields.tick_spacing == 0 {
            return refuse("bad_pool", "tick spacing is 0");
        }
        let mut ticks = Vec::new();
        let mut starts = Vec::new();
        for account in accounts.iter().filter(|account| account.address != address) {
            if account.owner != program {
                continue;
            }
            match layout::kind_of(&account.data) {
                Kind::TickArray => {
                    let header = layout::array_header(&account.data)?;
                    if header.whirlpool != address {
                        return refuse(
                            "foreign_account",
                            format!(
                                "tick array {} belongs to pool {}",
                                account.address, header.whirlpool
                            ),
                        );
                    }
                    if starts.contains(&header.start) {
                        return refuse(
                            "duplicate_account",
                            format!("two tick arrays start at {}", header.start),
                        );
                    }
                    starts.push(header.start);
                    ticks.extend(layout::read_ticks(
                        &account.data,
                        &header,
                        fields.tick_spacing,
                    )?);
                }
                Kind::Oracle => {
                    adaptive = Some(Adaptive::parse(&account.data, address, clock.unix_time)?)
                }
                Kind::Pool | Kind::Other => {}
            }
        }
        let (vaults, mints) = (
            [fields.vault_a, fields.vault_b],
            [fields.mint_a, fields.mint_b],
        );
        super::token::check_companions(accounts, &vaults, &mints)?;
        // The tier a pool was opened with tells whether its fee moves; only then the oracle counts.
        if fields.fee_tier_index == fields.tick_spacing {
            adaptive = None;
        } else if adaptive.is_none() {
            return refuse(
                "missing_account",
                "the pool's fee moves with its volatility: its oracle must be given",
            );
        }
        ticks.sort_unstable_by_key(|tick| tick.index);
        let fee_of =
            |mint, vault| super::token::transfer_fee_of(accounts, mint, vault, clock.epoch());
        let this = Self {
            tick_spacing: fields.tick_spacing,
            fee_rate: fields.fee_rate,
            protocol_fee_rate: fields.protocol_fee_rate,
            liquidity: fields.liquidity,
            sqrt_price: fields.sqrt_price,
            tick: fields.tick,
            transfer_fee_a: fee_of(fields.mint_a, fields.vault_a)?,
            transfer_fee_b: fee_of(fields.mint_b, fields.vault_b)?,
            mint_a: fields.mint_a,
            mint_b: fields.mint_b,
            ticks: ticks.into(),
            adaptive,
        };
        this.check()?;
        Ok(this)
    }

    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        if self.tick_spacing == 0 {
            return refuse("bad_pool", "tick spacing is 0");
        }
        if let Some(adaptive) = self.adaptive
            && !self.tick_spacing.is_multiple_of(adaptive.group_ticks)
        {
            return refuse("bad_pool", "tick groups do not fit the tick spacing");
        }
        if !(MIN_SQRT_PRICE..=MAX_SQRT_PRICE).contains(&self.sqrt_price) {
            return refuse(
                "bad_pool",
                format!("sqrt price {} is out of range", self.sqrt_price),
            );
        }
        // After a swap to the left has ended on a tick, the current tick is the one before it.
        if !(MIN_TICK - 1..=MAX_TICK).contains(&self.tick) {
            return refuse(
                "bad_pool",
                format!("current tick {} is out of range", self.tick),
            );
        }
        let floor = sqrt_price_of_tick(self.tick.max(MIN_TICK));
        let ceiling = sqrt_price_of_tick((self.tick + 1).min(MAX_TICK));
        if !(floor..=ceiling).contains(&self.sqrt_price) {
            return refuse(
                "bad_pool",
                format!("sqrt price and current tick {} disagree", self.tick),
            );
        }
        Ok(())
    }

    fn execute(
        &self,
        order: Order,
        clock: Clock,
        trace: Option<&mut swap::Trace>,
    ) -> Result<(Movement, swap::Outcome), QuoteError> {
        concentrated::execute(
            order,
            [self.transfer_fee_a, self.transfer_fee_b],
            self.sqrt_price,
            |inner| swap::run(self, inner, clock.unix_time, trace),
        )
    }
}
