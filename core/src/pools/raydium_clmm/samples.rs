//! Small CLMM pools: one around price one, one so far from it that its bitmap extension tells the arrays, one whose fee
//! moves.

use super::layout::{
    ARRAY_DISCRIMINATOR, ARRAY_LENGTH, CONFIG_DISCRIMINATOR, CONFIG_LENGTH,
    EXTENSION_DISCRIMINATOR, EXTENSION_LENGTH, POOL_DISCRIMINATOR, POOL_LENGTH, PROGRAM, array,
    config, dynamic, pool, reward, tick,
};
use super::tick_math::sqrt_price_of_tick;
use crate::pools::account::{Account, Pubkey, put};
use crate::pools::testing::{CLOCK, CONFIG, MINTS, POOL, VAULTS, account, vault};

const NET: i128 = 1_000_000_000;

pub fn samples() -> Vec<Vec<Account>> {
    let bit = |position: usize| (position / 8, [1u8 << (position % 8)]);
    let (own_below, own_above) = (bit(511), bit(512));
    let near = vec![
        pool_account(
            10,
            0,
            &[
                (pool::BITMAP + own_below.0, &own_below.1),
                (pool::BITMAP + own_above.0, &own_above.1),
            ],
        ),
        array_account(20, -600, 10, 59, NET),
        array_account(21, 0, 10, 7, -NET),
        config_account(),
        vault(0),
        vault(1),
    ];
    // Arrays 666 and 667 of 60 ticks: bits 154 and 155 of the first group upwards, which begins at 512.
    let far = vec![
        pool_account(1, 40_000, &[]),
        array_account(20, 39_960, 1, 30, NET),
        array_account(21, 40_020, 1, 7, -NET),
        account(
            Pubkey([22; 32]),
            PROGRAM,
            EXTENSION_LENGTH,
            &[
                (0, &EXTENSION_DISCRIMINATOR),
                (8, &POOL.0),
                (40 + 154 / 8, &[0b1100]),
            ],
        ),
        config_account(),
    ];
    // The first again, with a fee that moves and was last moved a while ago.
    let mut moving = near.clone();
    let mut data = moving[0].data.to_vec();
    let updated = CLOCK.unix_time as u64 - 100;
    for (offset, bytes) in [
        (dynamic::FILTER_PERIOD, &30u16.to_le_bytes()[..]),
        (dynamic::DECAY_PERIOD, &600u16.to_le_bytes()),
        (dynamic::REDUCTION_FACTOR, &5_000u16.to_le_bytes()),
        (dynamic::CONTROL, &4_000u32.to_le_bytes()),
        (dynamic::MAX_ACCUMULATOR, &350_000u32.to_le_bytes()),
        (dynamic::REFERENCE, &(-3i32).to_le_bytes()),
        (dynamic::ACCUMULATOR, &60_000u32.to_le_bytes()),
        (dynamic::UPDATED, &updated.to_le_bytes()),
    ] {
        put(&mut data, pool::DYNAMIC_FEE + offset, bytes);
    }
    moving[0].data = data.into();
    vec![near, far, moving]
}

fn config_account() -> Account {
    account(
        CONFIG,
        PROGRAM,
        CONFIG_LENGTH,
        &[
            (0, &CONFIG_DISCRIMINATOR),
            (config::PROTOCOL_FEE, &120_000u32.to_le_bytes()),
            (config::TRADE_FEE, &2_500u32.to_le_bytes()),
            (config::FUND_FEE, &40_000u32.to_le_bytes()),
        ],
    )
}

fn pool_account(spacing: u16, current: i32, more: &[(usize, &[u8])]) -> Account {
    let (spacing, liquidity) = (spacing.to_le_bytes(), NET.to_le_bytes());
    let (price, current) = (
        sqrt_price_of_tick(current).to_le_bytes(),
        current.to_le_bytes(),
    );
    let mut fields: Vec<(usize, &[u8])> = vec![
        (0, &POOL_DISCRIMINATOR),
        (pool::CONFIG, &CONFIG.0),
        (pool::MINTS[0], &MINTS[0].0),
        (pool::MINTS[1], &MINTS[1].0),
        (pool::VAULTS[0], &VAULTS[0].0),
        (pool::VAULTS[1], &VAULTS[1].0),
        (pool::TICK_SPACING, &spacing),
        (pool::LIQUIDITY, &liquidity),
        (pool::SQRT_PRICE, &price),
        (pool::TICK, &current),
        (pool::REWARDS + reward::END_TIME, &[0xff; 7]),
        (pool::REWARDS + reward::EMISSIONS, &[1; 12]),
        (pool::REWARDS + reward::MINT, &[9; 32]),
    ];
    fields.extend(more);
    account(POOL, PROGRAM, POOL_LENGTH, &fields)
}

fn array_account(key: u8, start: i32, spacing: i32, offset: usize, net: i128) -> Account {
    let at = array::TICKS + offset * tick::LENGTH;
    let index = start + offset as i32 * spacing;
    account(
        Pubkey([key; 32]),
        PROGRAM,
        ARRAY_LENGTH,
        &[
            (0, &ARRAY_DISCRIMINATOR),
            (array::POOL, &POOL.0),
            (array::START, &start.to_le_bytes()),
            (at + tick::INDEX, &index.to_le_bytes()),
            (at + tick::NET, &net.to_le_bytes()),
            (at + tick::GROSS, &NET.to_le_bytes()),
        ],
    )
}
