//! Write a swap into the raw accounts, field by field as the program does.

use super::layout::{ARRAY_DISCRIMINATOR, array, is, pool, reward, sides, tick, tick_places};
use super::swap::{Outcome, Trace};
use crate::pools::account::{Account, Pubkey, bytes_at, i32_at, put, u64_at, u128_at};
use crate::pools::error::{QuoteError, Refused, quote_error};
use crate::pools::{Clock, Movement, token, wide};

const UNREADABLE: QuoteError = quote_error("account_unreadable");
const OVERFLOW: QuoteError = quote_error("calculate_overflow");
const OPENING: u8 = 2;
const ENDED: u8 = 3;

/// Write pool, crossed ticks and, where present, vaults.
pub fn write(
    address: Pubkey,
    accounts: &mut [Account],
    zero_for_one: bool,
    outcome: &Outcome,
    movement: &Movement,
    trace: &Trace,
    clock: Clock,
) -> Result<(), QuoteError> {
    let account = accounts
        .iter_mut()
        .find(|account| account.address == address)
        .ok_or(UNREADABLE)?;
    let (given, taken) = if zero_for_one { (0, 1) } else { (1, 0) };
    let program = account.owner;
    let mut data = account.data.to_vec();
    let vaults = sides(&data, pool::VAULTS).map_err(|_| UNREADABLE)?;
    let mut growths = [0; 2];
    for (growth, at) in growths.iter_mut().zip(pool::FEE_GROWTHS) {
        *growth = u128_at(&data, at).map_err(|_| UNREADABLE)?;
    }
    let rewards = write_rewards(&mut data, clock).map_err(|_| UNREADABLE)?;
    put(&mut data, pool::LIQUIDITY, &outcome.liquidity.to_le_bytes());
    put(
        &mut data,
        pool::SQRT_PRICE,
        &outcome.sqrt_price.to_le_bytes(),
    );
    put(&mut data, pool::TICK, &outcome.tick.to_le_bytes());
    let growth = growths[given].wrapping_add(trace.fee_growth);
    put(&mut data, pool::FEE_GROWTHS[given], &growth.to_le_bytes());
    for (offset, fee) in [
        (pool::PROTOCOL_FEES[given], trace.protocol_fee),
        (pool::FUND_FEES[given], trace.fund_fee),
    ] {
        let owed = u64_at(&data, offset).map_err(|_| UNREADABLE)?;
        let owed = owed.checked_add(fee).ok_or(OVERFLOW)?;
        put(&mut data, offset, &owed.to_le_bytes());
    }
    put(&mut data, pool::RECENT_EPOCH, &clock.epoch().to_le_bytes());
    if let Some(dynamic) = &outcome.moving {
        dynamic.patch(&mut data);
    }
    account.data = data.into();
    for account in accounts.iter_mut() {
        if trace.crossings.is_empty() || !is(account, program, ARRAY_DISCRIMINATOR) {
            continue;
        }
        let crossed = |index: i32| {
            let at = trace.crossings.iter().find(|(tick, _)| *tick == index)?;
            let mut global = growths;
            global[given] = growths[given].wrapping_add(at.1);
            Some(global)
        };
        if let Some(patched) =
            cross_ticks(&account.data, crossed, &rewards, clock).map_err(|_| UNREADABLE)?
        {
            account.data = patched.into();
        }
    }
    token::move_balance(accounts, vaults[given], movement.vault_in, true)?;
    token::move_balance(accounts, vaults[taken], movement.vault_out, false)
}

/// Bring rewards up to the clock; the growths of initialized rewards, as crossing a tick needs them.
fn write_rewards(data: &mut [u8], clock: Clock) -> Result<[Option<u128>; 3], Refused> {
    let liquidity = u128_at(data, pool::LIQUIDITY)?;
    let now = u64::try_from(clock.unix_time).unwrap_or(0);
    let mut growths = [None; 3];
    for (index, slot) in growths.iter_mut().enumerate() {
        let base = pool::REWARDS + index * reward::LENGTH;
        if bytes_at::<32>(data, base + reward::MINT)? == [0; 32] {
            continue;
        }
        let mut growth = u128_at(data, base + reward::GROWTH)?;
        let (open, end) = (
            u64_at(data, base + reward::OPEN_TIME)?,
            u64_at(data, base + reward::END_TIME)?,
        );
        let updated = u64_at(data, base + reward::UPDATED)?;
        let until = now.min(end);
        // A clock behind the account leaves the account's own, where the program would fail.
        if now > open && until >= updated {
            let emissions = u128_at(data, base + reward::EMISSIONS)?;
            let emitted = wide::mul(emissions, u128::from(until - updated));
            if liquidity > 0 {
                let grown = emitted / ruint::aliases::U256::from(liquidity);
                growth = growth.wrapping_add(wide::to_u128(grown).unwrap_or(0));
                put(data, base + reward::GROWTH, &growth.to_le_bytes());
                let limbs = emitted.as_limbs();
                let whole = limbs[1].wrapping_add(u64::from(limbs[0] > 0));
                let total = u64_at(data, base + reward::TOTAL)?.wrapping_add(whole);
                put(data, base + reward::TOTAL, &total.to_le_bytes());
            }
            put(data, base + reward::UPDATED, &until.to_le_bytes());
            if until >= open && until < end {
                put(data, base + reward::STATE, &[OPENING]);
            } else if until == end {
                put(data, base + reward::STATE, &[ENDED]);
            }
        }
        *slot = Some(growth);
    }
    Ok(growths)
}

/// Flip the growths "outside" of every crossed tick of this array; `None` when it holds none.
fn cross_ticks(
    data: &[u8],
    crossed: impl Fn(i32) -> Option<[u128; 2]>,
    rewards: &[Option<u128>; 3],
    clock: Clock,
) -> Result<Option<Vec<u8>>, Refused> {
    let mut patched: Option<Vec<u8>> = None;
    for (_, at) in tick_places(data)? {
        let Some(growths) = crossed(i32_at(data, at + tick::INDEX)?) else {
            continue;
        };
        let copy = patched.get_or_insert_with(|| data.to_vec());
        for (side, growth) in growths.into_iter().enumerate() {
            flip(copy, at + tick::FEE_GROWTHS[side], growth)?;
        }
        for (index, growth) in rewards.iter().enumerate() {
            if let Some(growth) = growth {
                flip(copy, at + tick::REWARD_GROWTHS + 16 * index, *growth)?;
            }
        }
        put(copy, array::RECENT_EPOCH, &clock.epoch().to_le_bytes());
    }
    Ok(patched)
}

fn flip(data: &mut [u8], at: usize, global: u128) -> Result<(), Refused> {
    let outside = u128_at(data, at)?;
    put(data, at, &global.wrapping_sub(outside).to_le_bytes());
    Ok(())
}
