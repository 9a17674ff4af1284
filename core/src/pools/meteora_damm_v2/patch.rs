//! Write a swap into the raw accounts, as far as later quotes depend on it.

use super::MeteoraDammV2;
use super::curve::Curve;
use super::layout as at;
use crate::pools::account::{Account, Pubkey, key_at, put, u8_at, u64_at};
use crate::pools::error::{QuoteError, quote_error};
use crate::pools::{Movement, token};

const UNREADABLE: QuoteError = quote_error("account_unreadable");
const OVERFLOW: QuoteError = quote_error("math_overflow");

/// What is to be written.
pub struct Swap<'a> {
    pub a_to_b: bool,
    /// Given to the curve and taken from it.
    pub entered: u64,
    pub left: u64,
    pub fee_in_a: bool,
    pub protocol_fee: u64,
    pub movement: &'a Movement,
    pub next: &'a MeteoraDammV2,
}

/// Write the pool and, where present, its vaults.
pub fn write(address: Pubkey, accounts: &mut [Account], swap: &Swap<'_>) -> Result<(), QuoteError> {
    let account = accounts
        .iter_mut()
        .find(|account| account.address == address)
        .ok_or(UNREADABLE)?;
    let mut data = account.data.to_vec();
    let next = swap.next;
    put(&mut data, at::SQRT_PRICE, &next.price.to_le_bytes());
    if let Some(dynamic) = next.dynamic {
        put(&mut data, at::UPDATED, &dynamic.updated.to_le_bytes());
        put(
            &mut data,
            at::PRICE_REFERENCE,
            &dynamic.price_reference.to_le_bytes(),
        );
        put(
            &mut data,
            at::ACCUMULATOR,
            &dynamic.accumulator.to_le_bytes(),
        );
        put(
            &mut data,
            at::VOLATILITY_REFERENCE,
            &dynamic.reference.to_le_bytes(),
        );
    }
    let (side_in, side_out) = if swap.a_to_b { (0, 1) } else { (1, 0) };
    let read = |data: &[u8], offset: usize| u64_at(data, offset).map_err(|_| UNREADABLE);
    match next.curve {
        Curve::Product { reserves } => {
            for (offset, reserve) in at::RESERVES.into_iter().zip(reserves) {
                put(&mut data, offset, &reserve.to_le_bytes());
            }
        }
        // Pools of the first layout do not note what they trade with.
        Curve::Range { .. } if u8_at(&data, at::LAYOUT_VERSION).map_err(|_| UNREADABLE)? > 0 => {
            let given = read(&data, at::RESERVES[side_in])?.wrapping_add(swap.entered);
            let left = read(&data, at::RESERVES[side_out])?.wrapping_sub(swap.left);
            put(&mut data, at::RESERVES[side_in], &given.to_le_bytes());
            put(&mut data, at::RESERVES[side_out], &left.to_le_bytes());
        }
        Curve::Range { .. } => {}
    }
    let offset = at::PROTOCOL_FEES[usize::from(!swap.fee_in_a)];
    let owed = read(&data, offset)?.checked_add(swap.protocol_fee);
    put(&mut data, offset, &owed.ok_or(OVERFLOW)?.to_le_bytes());
    let vault = |side: usize| key_at(&data, at::VAULTS[side]).map_err(|_| UNREADABLE);
    let (vault_in, vault_out) = (vault(side_in)?, vault(side_out)?);
    account.data = data.into();
    token::move_balance(accounts, vault_in, swap.movement.vault_in, true)?;
    token::move_balance(accounts, vault_out, swap.movement.vault_out, false)
}
