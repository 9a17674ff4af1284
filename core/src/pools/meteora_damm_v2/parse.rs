//! A pool from its accounts.

use super::MeteoraDammV2;
use super::curve::Curve;
use super::fee::{Base, BaseFee, Decay, Dynamic};
use super::layout::{self as at, DISCRIMINATOR, LENGTH, PROGRAM};
use crate::pools::Clock;
use crate::pools::account::{
    self, Account, Pubkey, key_at, u8_at, u16_at, u32_at, u64_at, u128_at,
};
use crate::pools::error::{Refused, refuse};
use crate::pools::token::{self, TransferFee};

const ENABLED: u8 = 0;
const BY_SLOT: u8 = 0;
const BY_TIME: u8 = 1;
/// Fees from the output, in token b, in token b with a part that compounds.
const FROM_OUTPUT: u8 = 0;
const IN_B: u8 = 1;
const COMPOUNDING: u8 = 2;
/// What no fee exceeds, by the version of the pool's fees.
const HIGHEST_RATES: [u64; 2] = [500_000_000, 990_000_000];
const NEWEST_LAYOUT: u8 = 1;

/// A switch of the program that is not known here.
fn unknown<T>(what: &str, value: u8) -> Result<T, Refused> {
    refuse("unknown_mode", format!("{what} {value} is unknown"))
}

impl MeteoraDammV2 {
    /// Read a pool from its account; vaults and mints optionally, mints of Token-2022 always.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let kind = (DISCRIMINATOR, LENGTH);
        let program = Pubkey::parse(PROGRAM)?;
        let account = account::find_kind(accounts, address, program, kind, "DAMM v2 pool")?;
        let data = &account.data;
        let opened = u64_at(data, at::ACTIVATION_POINT)?;
        let opens_by_time = check_open(data, opened, clock)?;
        let mode = u8_at(data, at::COLLECT_FEE_MODE)?;
        let version = u8_at(data, at::FEE_VERSION)?;
        let Some(highest_rate) = HIGHEST_RATES.get(usize::from(version)) else {
            return unknown("fee version", version);
        };
        let mut this = Self {
            mints: [key_at(data, at::MINTS[0])?, key_at(data, at::MINTS[1])?],
            curve: read_curve(data, mode)?,
            price: u128_at(data, at::SQRT_PRICE)?,
            base_fee: read_base_fee(data)?,
            dynamic: read_dynamic(data)?,
            highest_rate: *highest_rate,
            fee_in_b: mode != FROM_OUTPUT,
            protocol_percent: u8_at(data, at::PROTOCOL_FEE_PERCENT)?,
            compounding_bps: if mode == COMPOUNDING {
                u16_at(data, at::COMPOUNDING_FEE)?
            } else {
                0
            },
            opened,
            opens_by_time,
            transfer_fees: [None, None],
        };
        this.check()?;
        this.transfer_fees = this.read_tokens(data, accounts, clock)?;
        Ok(this)
    }

    /// Check vaults and mints where they are given; the fees of token transfers.
    fn read_tokens(
        &self,
        data: &[u8],
        accounts: &[Account],
        clock: Clock,
    ) -> Result<[Option<TransferFee>; 2], Refused> {
        let vaults = [key_at(data, at::VAULTS[0])?, key_at(data, at::VAULTS[1])?];
        let programs = [
            u8_at(data, at::TOKEN_PROGRAMS[0])?,
            u8_at(data, at::TOKEN_PROGRAMS[1])?,
        ];
        let fees = token::noted_tokens(accounts, self.mints, vaults, programs, clock.epoch())?;
        let Ok(held) = self.curve.held(self.price) else {
            return refuse(
                "bad_pool",
                "the pool holds more than there can be of a token",
            );
        };
        for side in 0..2 {
            let owed = u128::from(held[side]) + u128::from(u64_at(data, at::PROTOCOL_FEES[side])?);
            token::check_held(accounts, vaults[side], self.mints[side], owed)?;
        }
        Ok(fees)
    }
}

/// Refuse a pool that nobody can swap with now; whether its times are seconds rather than slots.
fn check_open(data: &[u8], opens: u64, clock: Clock) -> Result<bool, Refused> {
    if u8_at(data, at::STATUS)? != ENABLED {
        return refuse("swap_disabled", "the pool is disabled");
    }
    let (by_time, now) = match u8_at(data, at::ACTIVATION_TYPE)? {
        BY_SLOT => (false, clock.slot),
        BY_TIME => (true, u64::try_from(clock.unix_time).unwrap_or(0)),
        other => return unknown("activation type", other),
    };
    if now < opens {
        return refuse("not_open", format!("the pool opens at {opens}"));
    }
    Ok(by_time)
}

fn read_curve(data: &[u8], mode: u8) -> Result<Curve, Refused> {
    let layout = u8_at(data, at::LAYOUT_VERSION)?;
    if layout > NEWEST_LAYOUT {
        return unknown("layout version", layout);
    }
    match mode {
        FROM_OUTPUT | IN_B => Ok(Curve::Range {
            liquidity: u128_at(data, at::LIQUIDITY)?,
            lowest: u128_at(data, at::LOWEST_PRICE)?,
            highest: u128_at(data, at::HIGHEST_PRICE)?,
        }),
        COMPOUNDING if layout == NEWEST_LAYOUT => Ok(Curve::Product {
            reserves: [
                u64_at(data, at::RESERVES[0])?,
                u64_at(data, at::RESERVES[1])?,
            ],
        }),
        COMPOUNDING => refuse("bad_pool", "a pool that compounds must note its reserves"),
        other => unknown("fee collection mode", other),
    }
}

fn read_base_fee(data: &[u8]) -> Result<BaseFee, Refused> {
    let mode = u8_at(data, at::BASE_FEE_MODE)?;
    let halves = [
        u32_at(data, at::SECOND_FACTOR)?,
        u32_at(data, at::SECOND_FACTOR + 4)?,
    ];
    let (periods, reduction) = (
        u16_at(data, at::FIRST_FACTOR)?,
        u64_at(data, at::THIRD_FACTOR)?,
    );
    let decay = if matches!(mode, 0 | 3) {
        Decay::Linear
    } else {
        Decay::Exponential
    };
    let kind = match mode {
        0 | 1 => Base::Time {
            decay,
            period: u64_at(data, at::SECOND_FACTOR)?,
        },
        2 => Base::Limiter {
            duration: halves[0],
            idle: halves == [0, 0] && periods == 0 && reduction == 0,
        },
        3 | 4 => Base::Price {
            decay,
            step_bps: halves[0],
            duration: halves[1],
        },
        other => return unknown("base fee mode", other),
    };
    Ok(BaseFee {
        cliff: u64_at(data, at::CLIFF_FEE)?,
        kind,
        periods,
        reduction,
        initial_price: u128_at(data, at::INITIAL_PRICE)?,
    })
}

fn read_dynamic(data: &[u8]) -> Result<Option<Dynamic>, Refused> {
    if u8_at(data, at::DYNAMIC)? == 0 {
        return Ok(None);
    }
    Ok(Some(Dynamic {
        max_accumulator: u32_at(data, at::MAX_ACCUMULATOR)?,
        variable_fee_control: u32_at(data, at::VARIABLE_FEE_CONTROL)?,
        bin_step: u16_at(data, at::BIN_STEP)?,
        filter_period: u16_at(data, at::FILTER_PERIOD)?,
        decay_period: u16_at(data, at::DECAY_PERIOD)?,
        reduction_factor: u16_at(data, at::REDUCTION_FACTOR)?,
        updated: u64_at(data, at::UPDATED)?,
        bin_step_x64: u128_at(data, at::BIN_STEP_X64)?,
        price_reference: u128_at(data, at::PRICE_REFERENCE)?,
        accumulator: u128_at(data, at::ACCUMULATOR)?,
        reference: u128_at(data, at::VOLATILITY_REFERENCE)?,
    }))
}
