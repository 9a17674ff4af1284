//! Write a swap into the raw accounts, field by field as the program does.

use super::layout::{Kind, array_header, kind_of, pool, tick, tick_places};
use super::swap::{Outcome, Trace};
use crate::pools::account::{Account, Pubkey, bytes_at, put, u64_at, u128_at};
use crate::pools::error::{QuoteError, Refused, quote_error};
use crate::pools::{Clock, Movement, token};

const UNREADABLE: QuoteError = quote_error("account_unreadable");

/// Write pool, crossed ticks and, where present, vaults.
pub fn write(
    address: Pubkey,
    accounts: &mut [Account],
    a_to_b: bool,
    outcome: &Outcome,
    movement: &Movement,
    trace: &Trace,
    clock: Clock,
) -> Result<(), QuoteError> {
    let pool_account = accounts
        .iter_mut()
        .find(|account| account.address == address)
        .ok_or(UNREADABLE)?;
    let program = pool_account.owner;
    let mut data = pool_account.data.to_vec();
    let after = write_pool(&mut data, a_to_b, outcome, trace, clock)?;
    pool_account.data = data.into();
    if let Some(adaptive) = outcome.moving {
        for account in accounts.iter_mut() {
            if account.owner == program && kind_of(&account.data) == Kind::Oracle {
                let mut data = account.data.to_vec();
                adaptive.write(&mut data);
                account.data = data.into();
            }
        }
    }
    for account in accounts.iter_mut() {
        if account.address == address
            || trace.crossings.is_empty()
            || kind_of(&account.data) != Kind::TickArray
        {
            continue;
        }
        if let Some(patched) =
            cross_ticks(&account.data, &after, a_to_b, trace).map_err(|_| UNREADABLE)?
        {
            account.data = patched.into();
        }
    }
    let (vault_in, vault_out) = if a_to_b {
        (after.vault_a, after.vault_b)
    } else {
        (after.vault_b, after.vault_a)
    };
    token::move_balance(accounts, vault_in, movement.vault_in, true)?;
    token::move_balance(accounts, vault_out, movement.vault_out, false)
}

/// What crossing a tick needs of the pool: growths before this swap for the token taken, rewards after it.
struct After {
    tick_spacing: u16,
    fee_growth_taken: u128,
    rewards: [Option<u128>; 3],
    fee_growth_base: u128,
    vault_a: Pubkey,
    vault_b: Pubkey,
}

fn write_pool(
    data: &mut [u8],
    a_to_b: bool,
    outcome: &Outcome,
    trace: &Trace,
    clock: Clock,
) -> Result<After, QuoteError> {
    let fields = super::layout::read_pool(data).map_err(|_| UNREADABLE)?;
    let rewards = write_rewards(data, fields.liquidity, clock).map_err(|_| UNREADABLE)?;
    put(data, pool::LIQUIDITY, &outcome.liquidity.to_le_bytes());
    put(data, pool::SQRT_PRICE, &outcome.sqrt_price.to_le_bytes());
    put(data, pool::TICK, &outcome.tick.to_le_bytes());
    let (growth_at, owed_at, growth_given, owed, growth_taken) = if a_to_b {
        (
            pool::FEE_GROWTH_A,
            pool::PROTOCOL_FEE_OWED_A,
            fields.fee_growth_a,
            fields.protocol_fee_owed_a,
            fields.fee_growth_b,
        )
    } else {
        (
            pool::FEE_GROWTH_B,
            pool::PROTOCOL_FEE_OWED_B,
            fields.fee_growth_b,
            fields.protocol_fee_owed_b,
            fields.fee_growth_a,
        )
    };
    put(
        data,
        growth_at,
        &growth_given.wrapping_add(trace.fee_growth).to_le_bytes(),
    );
    let owed = owed
        .checked_add(trace.protocol_fee)
        .ok_or(quote_error("protocol_fee_overflow"))?;
    put(data, owed_at, &owed.to_le_bytes());
    Ok(After {
        tick_spacing: fields.tick_spacing,
        fee_growth_taken: growth_taken,
        rewards,
        fee_growth_base: growth_given,
        vault_a: fields.vault_a,
        vault_b: fields.vault_b,
    })
}

/// Bring reward growths up to the clock; the growths of initialized rewards, as crossing a tick needs them.
fn write_rewards(
    data: &mut [u8],
    liquidity: u128,
    clock: Clock,
) -> Result<[Option<u128>; 3], Refused> {
    let updated = u64_at(data, pool::REWARDS_UPDATED)?;
    let now = u64::try_from(clock.unix_time).unwrap_or(0);
    let mut growths = [None; 3];
    for (index, slot) in growths.iter_mut().enumerate() {
        let base = pool::REWARDS + index * pool::REWARD_LENGTH;
        if bytes_at::<32>(data, base)? == [0; 32] {
            continue;
        }
        let mut growth = u128_at(data, base + pool::REWARD_GROWTH)?;
        if now > updated && liquidity > 0 {
            let emitted = u128_at(data, base + pool::REWARD_EMISSIONS)?
                .checked_mul(u128::from(now - updated));
            growth = growth.wrapping_add(emitted.map_or(0, |emitted| emitted / liquidity));
            put(data, base + pool::REWARD_GROWTH, &growth.to_le_bytes());
        }
        *slot = Some(growth);
    }
    // A clock that is unknown or behind the account leaves the account's own.
    if now > updated {
        put(data, pool::REWARDS_UPDATED, &now.to_le_bytes());
    }
    Ok(growths)
}

/// Flip the growths "outside" of every crossed tick of this array; `None` when it holds none.
fn cross_ticks(
    data: &[u8],
    after: &After,
    a_to_b: bool,
    trace: &Trace,
) -> Result<Option<Vec<u8>>, Refused> {
    let header = array_header(data)?;
    let spacing = i32::from(after.tick_spacing);
    let mut patched: Option<Vec<u8>> = None;
    for (offset, at) in tick_places(data, &header)? {
        let index = header.start + offset * spacing;
        for (_, growth) in trace
            .crossings
            .iter()
            .filter(|(crossed, _)| *crossed == index)
        {
            let copy = patched.get_or_insert_with(|| data.to_vec());
            let given = after.fee_growth_base.wrapping_add(*growth);
            let (growth_a, growth_b) = if a_to_b {
                (given, after.fee_growth_taken)
            } else {
                (after.fee_growth_taken, given)
            };
            flip(copy, at + tick::FEE_GROWTH_A, growth_a)?;
            flip(copy, at + tick::FEE_GROWTH_B, growth_b)?;
            for (reward, growth) in after.rewards.iter().enumerate() {
                if let Some(growth) = growth {
                    flip(copy, at + tick::REWARD_GROWTHS + 16 * reward, *growth)?;
                }
            }
        }
    }
    Ok(patched)
}

fn flip(data: &mut [u8], at: usize, global: u128) -> Result<(), Refused> {
    let outside = u128_at(data, at)?;
    put(data, at, &global.wrapping_sub(outside).to_le_bytes());
    Ok(())
}
