//! Where the fields of Orca's accounts stand.

use crate::pools::account::{
    Pubkey, bytes_at, i32_at, i128_at, key_at, u8_at, u16_at, u64_at, u128_at,
};
use crate::pools::error::{Refused, refuse};

use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};

/// The Whirlpool program.
pub const PROGRAM: &str = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc";

pub const POOL_DISCRIMINATOR: [u8; 8] = [0x3f, 0x95, 0xd1, 0x0c, 0xe1, 0x80, 0x63, 0x09];
pub const FIXED_DISCRIMINATOR: [u8; 8] = [0x45, 0x61, 0xbd, 0xbe, 0x6e, 0x07, 0x42, 0xbb];
pub const DYNAMIC_DISCRIMINATOR: [u8; 8] = [0x11, 0xd8, 0xf6, 0x8e, 0xe1, 0xc7, 0xda, 0x38];
/// Adaptive-fee oracle of a pool.
pub const ORACLE_DISCRIMINATOR: [u8; 8] = [0x8b, 0xc2, 0x83, 0xb3, 0x8c, 0xb3, 0xe5, 0xf4];

/// Ticks in one tick array.
pub const ARRAY_TICKS: i32 = 88;
pub const POOL_LENGTH: usize = 653;
pub const FIXED_LENGTH: usize = 9_988;

pub mod pool {
    pub const TICK_SPACING: usize = 41;
    pub const FEE_TIER_INDEX: usize = 43;
    pub const FEE_RATE: usize = 45;
    pub const PROTOCOL_FEE_RATE: usize = 47;
    pub const LIQUIDITY: usize = 49;
    pub const SQRT_PRICE: usize = 65;
    pub const TICK: usize = 81;
    pub const PROTOCOL_FEE_OWED_A: usize = 85;
    pub const PROTOCOL_FEE_OWED_B: usize = 93;
    pub const MINT_A: usize = 101;
    pub const VAULT_A: usize = 133;
    pub const FEE_GROWTH_A: usize = 165;
    pub const MINT_B: usize = 181;
    pub const VAULT_B: usize = 213;
    pub const FEE_GROWTH_B: usize = 245;
    pub const REWARDS_UPDATED: usize = 261;
    pub const REWARDS: usize = 269;
    pub const REWARD_LENGTH: usize = 128;
    pub const REWARD_EMISSIONS: usize = 96;
    pub const REWARD_GROWTH: usize = 112;
}

/// Fields of one initialized tick, from the start of its data (after the fixed layout's flag, the dynamic one's tag).
pub mod tick {
    pub const LENGTH: usize = 112;
    pub const FEE_GROWTH_A: usize = 32;
    pub const FEE_GROWTH_B: usize = 48;
    pub const REWARD_GROWTHS: usize = 64;
}

/// Fields of the oracle account.
pub mod oracle {
    pub const LENGTH: usize = 254;
    pub const WHIRLPOOL: usize = 8;
    pub const TRADE_ENABLED: usize = 40;
    pub const FILTER_PERIOD: usize = 48;
    pub const DECAY_PERIOD: usize = 50;
    pub const REDUCTION_FACTOR: usize = 52;
    pub const CONTROL_FACTOR: usize = 54;
    pub const MAX_ACCUMULATOR: usize = 58;
    pub const GROUP_TICKS: usize = 62;
    pub const MAJOR_SWAP_TICKS: usize = 64;
    pub const REFERENCE_UPDATED: usize = 82;
    pub const LAST_MAJOR_SWAP: usize = 90;
    pub const VOLATILITY_REFERENCE: usize = 98;
    pub const GROUP_REFERENCE: usize = 102;
    pub const ACCUMULATOR: usize = 106;
}

/// One initialized tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub index: i32,
    /// Liquidity added when the price crosses it upwards.
    pub liquidity_net: i128,
    pub sqrt_price: u128,
}

/// The header of a tick array: its kind decides where its ticks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayHeader {
    pub start: i32,
    pub whirlpool: Pubkey,
    dynamic: bool,
}

/// What kind of account the bytes claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pool,
    TickArray,
    Oracle,
    Other,
}

/// Recognise an account of the Whirlpool program by its discriminator.
pub fn kind_of(data: &[u8]) -> Kind {
    match data
        .get(..8)
        .and_then(|head| <[u8; 8]>::try_from(head).ok())
    {
        Some(POOL_DISCRIMINATOR) => Kind::Pool,
        Some(FIXED_DISCRIMINATOR | DYNAMIC_DISCRIMINATOR) => Kind::TickArray,
        Some(ORACLE_DISCRIMINATOR) => Kind::Oracle,
        _ => Kind::Other,
    }
}

/// Read the header of a tick array.
pub fn array_header(data: &[u8]) -> Result<ArrayHeader, Refused> {
    let dynamic = bytes_at::<8>(data, 0)? == DYNAMIC_DISCRIMINATOR;
    if !dynamic && data.len() != FIXED_LENGTH {
        return refuse(
            "short_data",
            format!(
                "a tick array has {FIXED_LENGTH} bytes, this one {}",
                data.len()
            ),
        );
    }
    Ok(ArrayHeader {
        start: i32_at(data, 8)?,
        whirlpool: key_at(data, if dynamic { 12 } else { 9_956 })?,
        dynamic,
    })
}

/// Where the data of every initialized tick of an array stands: (offset in the array 0..88, byte offset).
pub fn tick_places(data: &[u8], header: &ArrayHeader) -> Result<Vec<(i32, usize)>, Refused> {
    let mut places = Vec::new();
    let mut at = if header.dynamic { 60 } else { 12 };
    let bitmap = if header.dynamic {
        u128_at(data, 44)?
    } else {
        0
    };
    for offset in 0..ARRAY_TICKS {
        let initialized = match u8_at(data, at)? {
            0 => false,
            1 => true,
            other => {
                return refuse(
                    "bad_tick",
                    format!("tick {offset} of the array has the flag {other}"),
                );
            }
        };
        if header.dynamic && (bitmap >> offset & 1 == 1) != initialized {
            return refuse(
                "bad_tick",
                format!("tick {offset} and the array's bitmap disagree"),
            );
        }
        if initialized {
            bytes_at::<{ tick::LENGTH }>(data, at + 1)?;
            places.push((offset, at + 1));
        }
        at += if initialized || !header.dynamic {
            1 + tick::LENGTH
        } else {
            1
        };
    }
    Ok(places)
}

/// Read the initialized ticks of one array of a pool with this spacing.
pub fn read_ticks(data: &[u8], header: &ArrayHeader, spacing: u16) -> Result<Vec<Tick>, Refused> {
    let spacing = i32::from(spacing);
    let span = ARRAY_TICKS * spacing;
    if header.start % span != 0 || header.start <= MIN_TICK - span || header.start >= MAX_TICK {
        return refuse(
            "bad_tick_array",
            format!(
                "start tick {} does not fit tick spacing {spacing}",
                header.start
            ),
        );
    }
    tick_places(data, header)?
        .into_iter()
        .map(|(offset, at)| {
            let index = header.start + offset * spacing;
            if !(MIN_TICK..=MAX_TICK).contains(&index) {
                return refuse(
                    "bad_tick",
                    format!("initialized tick {index} is out of range"),
                );
            }
            Ok(Tick {
                index,
                liquidity_net: i128_at(data, at)?,
                sqrt_price: sqrt_price_of_tick(index),
            })
        })
        .collect()
}

/// The fields of a pool account that its swaps depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFields {
    pub tick_spacing: u16,
    pub fee_tier_index: u16,
    pub fee_rate: u16,
    pub protocol_fee_rate: u16,
    pub liquidity: u128,
    pub sqrt_price: u128,
    pub tick: i32,
    pub mint_a: Pubkey,
    pub mint_b: Pubkey,
    pub vault_a: Pubkey,
    pub vault_b: Pubkey,
    pub fee_growth_a: u128,
    pub fee_growth_b: u128,
    pub protocol_fee_owed_a: u64,
    pub protocol_fee_owed_b: u64,
}

/// Read a pool account.
pub fn read_pool(data: &[u8]) -> Result<PoolFields, Refused> {
    if data.len() != POOL_LENGTH {
        return refuse(
            "short_data",
            format!(
                "a Whirlpool account has {POOL_LENGTH} bytes, this one {}",
                data.len()
            ),
        );
    }
    Ok(PoolFields {
        tick_spacing: u16_at(data, pool::TICK_SPACING)?,
        fee_tier_index: u16_at(data, pool::FEE_TIER_INDEX)?,
        fee_rate: u16_at(data, pool::FEE_RATE)?,
        protocol_fee_rate: u16_at(data, pool::PROTOCOL_FEE_RATE)?,
        liquidity: u128_at(data, pool::LIQUIDITY)?,
        sqrt_price: u128_at(data, pool::SQRT_PRICE)?,
        tick: i32_at(data, pool::TICK)?,
        mint_a: key_at(data, pool::MINT_A)?,
        mint_b: key_at(data, pool::MINT_B)?,
        vault_a: key_at(data, pool::VAULT_A)?,
        vault_b: key_at(data, pool::VAULT_B)?,
        fee_growth_a: u128_at(data, pool::FEE_GROWTH_A)?,
        fee_growth_b: u128_at(data, pool::FEE_GROWTH_B)?,
        protocol_fee_owed_a: u64_at(data, pool::PROTOCOL_FEE_OWED_A)?,
        protocol_fee_owed_b: u64_at(data, pool::PROTOCOL_FEE_OWED_B)?,
    })
}
