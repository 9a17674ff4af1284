//! Raydium CLMM: concentrated liquidity in arrays of 60 ticks, with bitmaps that tell which of them exist.

mod dynamic;
pub mod layout;
mod patch;
#[cfg(test)]
mod samples;
mod step;
mod swap;
mod tick_math;
mod venue;

use std::sync::Arc;

pub use self::venue::FAMILY;

use self::dynamic::Dynamic;
use self::layout::{
    ARRAY_DISCRIMINATOR, ARRAY_LENGTH, ARRAY_TICKS, Bitmap, CONFIG_DISCRIMINATOR, CONFIG_LENGTH,
    EXTENSION_DISCRIMINATOR, EXTENSION_LENGTH, POOL_DISCRIMINATOR, POOL_LENGTH, PROGRAM, Tick,
    array, config, pool,
};
use self::tick_math::{MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price_of_tick};
use super::account::{
    self, Account, Pubkey, i32_at, key_at, u8_at, u16_at, u32_at, u64_at, u128_at,
};
use super::error::{QuoteError, Refused, refuse};
use super::token::{self, TransferFee};
use super::{Clock, Movement, Order, concentrated};

const SWAP_DISABLED: u8 = 1 << 4;
const UNIT: u32 = 1_000_000;

/// Why no tick is known beyond an edge: what a swap that needs one fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// There is none: the bitmaps say so.
    Exhausted = 0,
    /// The next tick array exists and was not given.
    ArrayMissing = 1,
    /// Only the bitmap extension could tell, and it was not given.
    ExtensionMissing = 2,
}

impl Reason {
    /// The program's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "liquidity_insufficient",
            Self::ArrayMissing => "not_enough_tick_array_account",
            Self::ExtensionMissing => "missing_tick_array_bitmap_extension_account",
        }
    }
}

/// Where knowledge of the ticks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The outermost tick that is known, initialized or not.
    pub tick: i32,
    pub reason: Reason,
}

/// A pool's tick arrays by their start, and its bitmap extension.
struct Companions<'a> {
    arrays: Vec<(i32, &'a Account)>,
    extension: Option<&'a [u8]>,
}

/// Everything a CLMM pool's swaps depend on. Rates are millionths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaydiumClmm {
    pub mints: [Pubkey; 2],
    pub tick_spacing: u16,
    pub trade_fee_rate: u32,
    /// Share of the fee.
    pub protocol_fee_rate: u32,
    /// Share of the fee.
    pub fund_fee_rate: u32,
    pub liquidity: u128,
    pub sqrt_price: u128,
    pub tick: i32,
    /// All initialized ticks between the edges, in order. No swap changes them.
    pub ticks: Arc<[Tick]>,
    pub lower: Edge,
    pub upper: Edge,
    pub transfer_fees: [Option<TransferFee>; 2],
    /// Present where the fee moves.
    pub dynamic: Option<Dynamic>,
}

impl RaydiumClmm {
    /// Read a pool from its account, its configuration and its tick arrays; the bitmap extension where the price is
    /// far from one; vaults and mints where tokens charge transfer fees.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let find = |key: Pubkey, what: &str| account::find(accounts, key, what);
        let pool_account = find(address, "pool")?;
        layout::check(pool_account, POOL_DISCRIMINATOR, POOL_LENGTH, "pool")?;
        let data = &pool_account.data;
        if u8_at(data, pool::STATUS)? & SWAP_DISABLED != 0 {
            return refuse("swap_disabled", "the pool's status forbids swaps");
        }
        let open = u64_at(data, pool::OPEN_TIME)?;
        if u64::try_from(clock.unix_time).unwrap_or(0) <= open {
            return refuse("not_open", format!("the pool opens after {open}"));
        }
        layout::check_features(data)?;
        let rates = find(key_at(data, pool::CONFIG)?, "configuration")?;
        layout::check(rates, CONFIG_DISCRIMINATOR, CONFIG_LENGTH, "configuration")?;
        let (mints, vaults) = (
            layout::sides(data, pool::MINTS)?,
            layout::sides(data, pool::VAULTS)?,
        );
        token::check_companions(accounts, &vaults, &mints)?;
        let transfer_fee = |side: usize| {
            token::transfer_fee_of(accounts, mints[side], vaults[side], clock.epoch())
        };
        let mut this = Self {
            mints,
            tick_spacing: u16_at(data, pool::TICK_SPACING)?,
            trade_fee_rate: u32_at(&rates.data, config::TRADE_FEE)?,
            protocol_fee_rate: u32_at(&rates.data, config::PROTOCOL_FEE)?,
            fund_fee_rate: u32_at(&rates.data, config::FUND_FEE)?,
            liquidity: u128_at(data, pool::LIQUIDITY)?,
            sqrt_price: u128_at(data, pool::SQRT_PRICE)?,
            tick: i32_at(data, pool::TICK)?,
            ticks: Vec::new().into(),
            lower: Edge {
                tick: MIN_TICK,
                reason: Reason::Exhausted,
            },
            upper: Edge {
                tick: MAX_TICK,
                reason: Reason::Exhausted,
            },
            transfer_fees: [transfer_fee(0)?, transfer_fee(1)?],
            dynamic: Dynamic::parse(data)?,
        };
        this.check()?;
        this.read_ticks(address, data, accounts)?;
        Ok(this)
    }

    /// Read the ticks from the array of the price outwards, as far as the arrays are known.
    fn read_ticks(
        &mut self,
        address: Pubkey,
        data: &[u8],
        accounts: &[Account],
    ) -> Result<(), Refused> {
        let companions = self.companions(address, accounts)?;
        let mut bitmap = Bitmap::read(data, companions.extension);
        let span = ARRAY_TICKS * i32::from(self.tick_spacing);
        let home = self.tick.div_euclid(span);
        let (lowest, highest) = (MIN_TICK.div_euclid(span), MAX_TICK.div_euclid(span));
        bitmap
            .positions
            .retain(|position| (lowest..=highest).contains(position));
        let above = bitmap
            .positions
            .partition_point(|position| *position <= home);
        let (left, right) = bitmap.positions.split_at(above);
        let mut ticks = Vec::new();
        // Read arrays in this order up to the first that was not given: its position.
        let mut read = |positions: &mut dyn Iterator<Item = &i32>| -> Result<Option<i32>, Refused> {
            for position in positions {
                let start = position * span;
                let found = companions.arrays.iter().find(|(at, _)| *at == start);
                let Some((_, account)) = found else {
                    return Ok(Some(*position));
                };
                let found = layout::read_ticks(&account.data, self.tick_spacing)?;
                if found.is_empty() {
                    return refuse(
                        "bad_tick_array",
                        format!("the array at {start} has no ticks, the bitmap says it has"),
                    );
                }
                ticks.extend(found);
            }
            Ok(None)
        };
        let told = &bitmap.told;
        let (tick, reason) = if !told.contains(&home) && home >= lowest {
            ((home + 1) * span, Reason::ExtensionMissing)
        } else if let Some(missing) = read(&mut left.iter().rev())? {
            ((missing + 1) * span, Reason::ArrayMissing)
        } else if *told.start() > lowest {
            (told.start() * span, Reason::ExtensionMissing)
        } else {
            (MIN_TICK, Reason::Exhausted)
        };
        self.lower = Edge { tick, reason };
        let (tick, reason) = if !told.contains(&(home + 1)) && home < highest {
            ((home + 1) * span - 1, Reason::ExtensionMissing)
        } else if let Some(missing) = read(&mut right.iter())? {
            (missing * span - 1, Reason::ArrayMissing)
        } else if *told.end() < highest {
            ((told.end() + 1) * span - 1, Reason::ExtensionMissing)
        } else {
            (MAX_TICK, Reason::Exhausted)
        };
        self.upper = Edge { tick, reason };
        // Beyond its array's last tick, a price needs that array on one side only.
        let last_of_home = home * span + span - i32::from(self.tick_spacing);
        if self.lower.reason != Reason::Exhausted
            && self.lower.tick > self.tick
            && self.tick < last_of_home
        {
            return refuse(
                "missing_account",
                format!(
                    "what the price lies in is not known: {}",
                    self.lower.reason.name()
                ),
            );
        }
        ticks.sort_unstable_by_key(|tick| tick.index);
        self.ticks = ticks.into();
        Ok(())
    }

    fn companions<'a>(
        &self,
        address: Pubkey,
        accounts: &'a [Account],
    ) -> Result<Companions<'a>, Refused> {
        let program = Pubkey::parse(PROGRAM)?;
        let (mut arrays, mut extension) = (Vec::new(), None);
        let mine = |account: &Account, at: usize| {
            if key_at(&account.data, at)? == address {
                return Ok(());
            }
            refuse(
                "foreign_account",
                format!("{} belongs to another pool", account.address),
            )
        };
        for account in accounts {
            if layout::is(account, program, ARRAY_DISCRIMINATOR) {
                layout::check(account, ARRAY_DISCRIMINATOR, ARRAY_LENGTH, "tick array")?;
                mine(account, array::POOL)?;
                let start = i32_at(&account.data, array::START)?;
                if start % (ARRAY_TICKS * i32::from(self.tick_spacing)) != 0 {
                    return refuse(
                        "bad_tick_array",
                        format!("start tick {start} does not fit the tick spacing"),
                    );
                }
                if arrays.iter().any(|(other, _)| *other == start) {
                    return refuse(
                        "duplicate_account",
                        format!("two tick arrays start at {start}"),
                    );
                }
                arrays.push((start, account));
            } else if layout::is(account, program, EXTENSION_DISCRIMINATOR) {
                layout::check(
                    account,
                    EXTENSION_DISCRIMINATOR,
                    EXTENSION_LENGTH,
                    "bitmap extension",
                )?;
                mine(account, 8)?;
                if extension.replace(&*account.data).is_some() {
                    return refuse("duplicate_account", "two bitmap extensions are given");
                }
            }
        }
        Ok(Companions { arrays, extension })
    }

    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        if self.tick_spacing == 0 {
            return refuse("bad_pool", "tick spacing is 0");
        }
        let shares = u64::from(self.protocol_fee_rate) + u64::from(self.fund_fee_rate);
        if self.trade_fee_rate >= UNIT || shares > u64::from(UNIT) {
            return refuse("bad_pool", "the fees of the pool are out of range");
        }
        if let Some(dynamic) = &self.dynamic {
            dynamic.check(self.tick_spacing)?;
        }
        // After a swap to the left has ended on a tick, the current tick is the one before it.
        if !(MIN_TICK - 1..MAX_TICK).contains(&self.tick)
            || !(MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&self.sqrt_price)
        {
            return refuse("bad_pool", "price or current tick is out of range");
        }
        let floor = sqrt_price_of_tick(self.tick.max(MIN_TICK));
        let ceiling = sqrt_price_of_tick(self.tick + 1);
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
        concentrated::execute(order, self.transfer_fees, self.sqrt_price, |inner| {
            swap::run(self, inner, clock.unix_time, trace)
        })
    }
}
