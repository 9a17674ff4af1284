//! Write a swap into the raw accounts, as far as later quotes depend on it.

use super::layout::{self, Bin, Kind, bin, pair};
use super::swap::{Fill, Outcome};
use crate::pools::account::{Account, Pubkey, key_at, put, u32_at, u64_at};
use crate::pools::error::{QuoteError, quote_error};
use crate::pools::{Movement, token};

const UNREADABLE: QuoteError = quote_error("account_unreadable");
const OVERFLOW: QuoteError = quote_error("math_overflow");

/// What is to be written.
pub struct Swap<'a> {
    pub a_to_b: bool,
    pub fee_on_input: bool,
    pub outcome: &'a Outcome,
    pub movement: &'a Movement,
    /// As they were before.
    pub bins: &'a [Bin],
    pub fills: &'a [Fill],
}

/// Write pair, bins and, where present, vaults.
pub fn write(address: Pubkey, accounts: &mut [Account], swap: &Swap<'_>) -> Result<(), QuoteError> {
    let account = accounts
        .iter_mut()
        .find(|account| account.address == address)
        .ok_or(UNREADABLE)?;
    let program = account.owner;
    let mut data = account.data.to_vec();
    write_pair(&mut data, swap)?;
    let vault = |side: usize| key_at(&data, pair::VAULTS[side]).map_err(|_| UNREADABLE);
    let vaults = [vault(0)?, vault(1)?];
    account.data = data.into();
    for account in accounts.iter_mut() {
        if account.owner == program && layout::kind_of(&account.data) == Kind::Array {
            let (index, owner) = layout::array_header(&account.data).map_err(|_| UNREADABLE)?;
            if owner == address {
                write_bins(account, index, swap)?;
            }
        }
    }
    let (side_in, side_out) = if swap.a_to_b { (0, 1) } else { (1, 0) };
    token::move_balance(accounts, vaults[side_in], swap.movement.vault_in, true)?;
    token::move_balance(accounts, vaults[side_out], swap.movement.vault_out, false)
}

fn write_pair(data: &mut [u8], swap: &Swap<'_>) -> Result<(), QuoteError> {
    let volatility = &swap.outcome.volatility;
    put(
        data,
        pair::ACCUMULATOR,
        &volatility.accumulator.to_le_bytes(),
    );
    put(
        data,
        pair::VOLATILITY_REFERENCE,
        &volatility.reference.to_le_bytes(),
    );
    put(
        data,
        pair::INDEX_REFERENCE,
        &volatility.index_reference.to_le_bytes(),
    );
    put(data, pair::UPDATED, &volatility.updated.to_le_bytes());
    put(data, pair::ACTIVE, &swap.outcome.active.to_le_bytes());
    let charged_a = swap.a_to_b == swap.fee_on_input;
    let at = pair::PROTOCOL_FEES[usize::from(!charged_a)];
    let owed = u64_at(data, at)
        .map_err(|_| UNREADABLE)?
        .checked_add(swap.outcome.protocol_fee)
        .ok_or(OVERFLOW)?;
    put(data, at, &owed.to_le_bytes());
    Ok(())
}

fn write_bins(account: &mut Account, index: i32, swap: &Swap<'_>) -> Result<(), QuoteError> {
    let (side_in, side_out) = if swap.a_to_b { (0, 1) } else { (1, 0) };
    let mut patched: Option<Vec<u8>> = None;
    for (id, start) in layout::bin_places(index) {
        let Some(fill) = swap
            .fills
            .iter()
            .find(|fill| swap.bins[fill.place].id == id)
        else {
            continue;
        };
        let before = &swap.bins[fill.place];
        let data = patched.get_or_insert_with(|| account.data.to_vec());
        let [liquidity, processed, open] = fill.taken;
        // The pool after the swap has been made from the same numbers already.
        let given = before.amounts[side_in].wrapping_add(fill.entered);
        let left = before.amounts[side_out].wrapping_sub(liquidity);
        put(data, start + bin::AMOUNTS[side_in], &given.to_le_bytes());
        put(data, start + bin::AMOUNTS[side_out], &left.to_le_bytes());
        let mut remaining = before.processed.wrapping_sub(processed);
        if open > 0 {
            // The orders that wait become the ones in work, of which a part is filled.
            remaining = remaining.wrapping_add(before.open.wrapping_sub(open));
            let age = u32_at(data, start + bin::ORDER_AGE).map_err(|_| UNREADABLE)?;
            put(data, start + bin::OPEN_ORDERS, &[0; 8]);
            put(
                data,
                start + bin::PROCESSING_ORDERS,
                &before.open.to_le_bytes(),
            );
            put(
                data,
                start + bin::ORDER_AGE,
                &age.wrapping_add(1).to_le_bytes(),
            );
        }
        put(
            data,
            start + bin::PROCESSED_REMAINING,
            &remaining.to_le_bytes(),
        );
    }
    if let Some(data) = patched {
        account.data = data.into();
    }
    Ok(())
}
