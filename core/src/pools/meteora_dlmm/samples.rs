//! Accounts of small pairs for the mutation test.

use super::layout::{
    ARRAY_DISCRIMINATOR, ARRAY_LENGTH, EXTENSION_DISCRIMINATOR, EXTENSION_LENGTH,
    PAIR_DISCRIMINATOR, PAIR_LENGTH, PROGRAM, array, bin, pair,
};
use super::price;
use crate::pools::account::{Account, Pubkey, put};
use crate::pools::testing::{CLOCK, MINTS, POOL, VAULTS, account, vault};

const STEP: u16 = 25;

fn bin_array(index: i64, orders: bool) -> Account {
    let mut made = account(
        Pubkey([40u8.wrapping_add(index as u8); 32]),
        PROGRAM,
        ARRAY_LENGTH,
        &[
            (0, &ARRAY_DISCRIMINATOR),
            (array::INDEX, &index.to_le_bytes()),
            (array::PAIR, &POOL.0),
        ],
    );
    let mut data = made.data.to_vec();
    // Few bins on either side of the boundary between the arrays.
    let offsets = if index < 0 { 65..70usize } else { 0..5 };
    for offset in offsets {
        let id = index as i32 * 70 + offset as i32;
        let at = array::BINS + offset * bin::LENGTH;
        let price = price::of_bin(id, STEP).expect("a price");
        put(&mut data, at + bin::PRICE, &price.to_le_bytes());
        for side in 0..2 {
            if (id >= 0) == (side == 0) || id == 0 {
                put(
                    &mut data,
                    at + bin::AMOUNTS[side],
                    &1_000_000_000u64.to_le_bytes(),
                );
            }
        }
        if orders {
            put(
                &mut data,
                at + bin::OPEN_ORDERS,
                &30_000_000u64.to_le_bytes(),
            );
            put(
                &mut data,
                at + bin::PROCESSED_REMAINING,
                &5_000_000u64.to_le_bytes(),
            );
            put(&mut data, at + bin::ASKS, &[u8::from(id > 0)]);
        }
    }
    made.data = data.into();
    made
}

fn dlmm(function: u8, fee_mode: u8) -> Vec<Account> {
    let made = account(
        POOL,
        PROGRAM,
        PAIR_LENGTH,
        &[
            (0, &PAIR_DISCRIMINATOR),
            (pair::BASE_FACTOR, &10_000u16.to_le_bytes()),
            (pair::FILTER_PERIOD, &30u16.to_le_bytes()),
            (pair::DECAY_PERIOD, &600u16.to_le_bytes()),
            (pair::REDUCTION_FACTOR, &5_000u16.to_le_bytes()),
            (pair::VARIABLE_FEE_CONTROL, &7_500u32.to_le_bytes()),
            (pair::MAX_ACCUMULATOR, &300_000u32.to_le_bytes()),
            (pair::PROTOCOL_SHARE, &500u16.to_le_bytes()),
            (pair::FUNCTION, &[function]),
            (pair::COLLECT_FEE_MODE, &[fee_mode]),
            (pair::ACCUMULATOR, &40_000u32.to_le_bytes()),
            (pair::UPDATED, &(CLOCK.unix_time - 100).to_le_bytes()),
            (pair::BIN_STEP, &STEP.to_le_bytes()),
            (pair::MINTS[0], &MINTS[0].0),
            (pair::MINTS[1], &MINTS[1].0),
            (pair::VAULTS[0], &VAULTS[0].0),
            (pair::VAULTS[1], &VAULTS[1].0),
            // Arrays -1 and 0 are marked.
            (pair::BITMAP + 56, &(1u64 << 63).to_le_bytes()),
            (pair::BITMAP + 64, &1u64.to_le_bytes()),
            (pair::VERSION, &[1]),
        ],
    );
    let extension = account(
        Pubkey([29; 32]),
        PROGRAM,
        EXTENSION_LENGTH,
        &[(0, &EXTENSION_DISCRIMINATOR), (8, &POOL.0)],
    );
    let orders = function == 2;
    vec![
        made,
        extension,
        bin_array(-1, orders),
        bin_array(0, orders),
        vault(0),
        vault(1),
    ]
}

pub fn all() -> Vec<Vec<Account>> {
    vec![dlmm(0, 0), dlmm(2, 1)]
}
