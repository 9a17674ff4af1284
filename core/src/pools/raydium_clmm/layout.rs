//! Where the fields of Raydium's CLMM accounts stand, and which of its tick arrays exist.
//!
//! Source: raydium-io/raydium-clmm, programs/amm/src/states.

use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};
use crate::pools::account::{
    Account, Pubkey, bytes_at, i32_at, i128_at, key_at, u8_at, u64_at, u128_at,
};
use crate::pools::error::{Refused, refuse};

/// The CLMM program.
pub const PROGRAM: &str = "CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK";

pub const POOL_DISCRIMINATOR: [u8; 8] = [0xf7, 0xed, 0xe3, 0xf5, 0xd7, 0xc3, 0xde, 0x46];
pub const CONFIG_DISCRIMINATOR: [u8; 8] = [0xda, 0xf4, 0x21, 0x68, 0xcb, 0xcb, 0x2b, 0x6f];
pub const ARRAY_DISCRIMINATOR: [u8; 8] = [0xc0, 0x9b, 0x55, 0xcd, 0x31, 0xf9, 0x81, 0x2a];
pub const EXTENSION_DISCRIMINATOR: [u8; 8] = [0x3c, 0x96, 0x24, 0xdb, 0x61, 0x80, 0x8b, 0x99];

pub const POOL_LENGTH: usize = 1_544;
pub const CONFIG_LENGTH: usize = 117;
pub const ARRAY_LENGTH: usize = 10_240;
pub const EXTENSION_LENGTH: usize = 1_832;
/// Ticks in one tick array.
pub const ARRAY_TICKS: i32 = 60;

pub mod pool {
    pub const CONFIG: usize = 9;
    pub const MINTS: [usize; 2] = [73, 105];
    pub const VAULTS: [usize; 2] = [137, 169];
    pub const TICK_SPACING: usize = 235;
    pub const LIQUIDITY: usize = 237;
    pub const SQRT_PRICE: usize = 253;
    pub const TICK: usize = 269;
    pub const FEE_GROWTHS: [usize; 2] = [277, 293];
    pub const PROTOCOL_FEES: [usize; 2] = [309, 317];
    pub const STATUS: usize = 389;
    pub const FEE_ON: usize = 390;
    pub const REWARDS: usize = 397;
    pub const BITMAP: usize = 904;
    pub const FUND_FEES: [usize; 2] = [1_064, 1_072];
    pub const OPEN_TIME: usize = 1_080;
    pub const RECENT_EPOCH: usize = 1_088;
    pub const DYNAMIC_FEE: usize = 1_096;
}

/// Fields of a pool's moving fee.
pub mod dynamic {
    pub const LENGTH: usize = 80;
    pub const FILTER_PERIOD: usize = 0;
    pub const DECAY_PERIOD: usize = 2;
    pub const REDUCTION_FACTOR: usize = 4;
    pub const CONTROL: usize = 6;
    pub const MAX_ACCUMULATOR: usize = 10;
    pub const REFERENCE: usize = 14;
    pub const VOLATILITY_REFERENCE: usize = 18;
    pub const ACCUMULATOR: usize = 22;
    pub const UPDATED: usize = 26;
}

/// Fields of one of a pool's three rewards.
pub mod reward {
    pub const LENGTH: usize = 169;
    pub const STATE: usize = 0;
    pub const OPEN_TIME: usize = 1;
    pub const END_TIME: usize = 9;
    pub const UPDATED: usize = 17;
    pub const EMISSIONS: usize = 25;
    pub const TOTAL: usize = 41;
    pub const MINT: usize = 57;
    pub const GROWTH: usize = 153;
}

pub mod config {
    pub const PROTOCOL_FEE: usize = 43;
    pub const TRADE_FEE: usize = 47;
    pub const FUND_FEE: usize = 53;
}

pub mod array {
    pub const POOL: usize = 8;
    pub const START: usize = 40;
    pub const TICKS: usize = 44;
    pub const RECENT_EPOCH: usize = 10_125;
}

/// Fields of one tick of an array.
pub mod tick {
    pub const LENGTH: usize = 168;
    pub const INDEX: usize = 0;
    pub const NET: usize = 4;
    pub const GROSS: usize = 20;
    pub const FEE_GROWTHS: [usize; 2] = [36, 52];
    pub const REWARD_GROWTHS: usize = 68;
    pub const ORDERS: usize = 124;
    pub const PART_FILLED: usize = 132;
}

/// One initialized tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub index: i32,
    /// Liquidity added when the price crosses it upwards.
    pub liquidity_net: i128,
    pub sqrt_price: u128,
    /// Limit orders wait at this tick.
    pub orders: bool,
}

/// Check owner, discriminator and length of an account.
pub fn check(
    account: &Account,
    discriminator: [u8; 8],
    length: usize,
    what: &str,
) -> Result<(), Refused> {
    if account.owner != Pubkey::parse(PROGRAM)? {
        return refuse(
            "wrong_owner",
            format!(
                "{} is owned by {}, not by Raydium CLMM",
                account.address, account.owner
            ),
        );
    }
    if bytes_at::<8>(&account.data, 0)? != discriminator {
        return refuse(
            "wrong_discriminator",
            format!("{} is not a CLMM {what}", account.address),
        );
    }
    if account.data.len() != length {
        return refuse(
            "short_data",
            format!(
                "a CLMM {what} has {length} bytes, this one {}",
                account.data.len()
            ),
        );
    }
    Ok(())
}

/// True for an account of this kind; its length is checked where it is read.
pub fn is(account: &Account, program: Pubkey, discriminator: [u8; 8]) -> bool {
    account.owner == program && account.data.get(..8) == Some(&discriminator)
}

/// Where an array's ticks stand that are initialized: (offset in the array 0..60, byte offset).
pub fn tick_places(data: &[u8]) -> Result<Vec<(i32, usize)>, Refused> {
    let mut places = Vec::new();
    for offset in 0..ARRAY_TICKS {
        let at = array::TICKS + offset as usize * tick::LENGTH;
        let orders = u64_at(data, at + tick::ORDERS)? | u64_at(data, at + tick::PART_FILLED)?;
        if u128_at(data, at + tick::GROSS)? != 0 || orders != 0 {
            places.push((offset, at));
        }
    }
    Ok(places)
}

/// Read the initialized ticks of one array of a pool with this spacing.
pub fn read_ticks(data: &[u8], spacing: u16) -> Result<Vec<Tick>, Refused> {
    let start = i32_at(data, array::START)?;
    tick_places(data)?
        .into_iter()
        .map(|(offset, at)| {
            let index = i32_at(data, at + tick::INDEX)?;
            if index != start + offset * i32::from(spacing)
                || !(MIN_TICK..=MAX_TICK).contains(&index)
            {
                return refuse(
                    "bad_tick",
                    format!("initialized tick {index} is out of place"),
                );
            }
            let waiting = u64_at(data, at + tick::ORDERS)? | u64_at(data, at + tick::PART_FILLED)?;
            // A tick without liquidity has nothing to cross, whatever it holds from before.
            let gross = u128_at(data, at + tick::GROSS)?;
            Ok(Tick {
                index,
                liquidity_net: if gross == 0 {
                    0
                } else {
                    i128_at(data, at + tick::NET)?
                },
                sqrt_price: sqrt_price_of_tick(index),
                orders: waiting != 0,
            })
        })
        .collect()
}

/// Which tick arrays hold initialized ticks, counted from tick 0: the pool's own bitmap tells of the nearest 512 on
/// each side, its extension of the others.
pub struct Bitmap {
    /// In order.
    pub positions: Vec<i32>,
    /// What the bitmaps tell of.
    pub told: std::ops::RangeInclusive<i32>,
}

impl Bitmap {
    /// Read the bitmaps; both accounts have been checked.
    pub fn read(pool: &[u8], extension: Option<&[u8]>) -> Self {
        let own = &pool[pool::BITMAP..pool::BITMAP + 128];
        let mut positions: Vec<i32> = set_bits(own).map(|bit| bit - 512).collect();
        if let Some(data) = extension {
            // 14 groups of 512 arrays upwards, then 14 downwards; within a group, bits rise with the tick.
            positions.extend(
                set_bits(&data[40..]).map(|bit| match (bit / 512, bit % 512) {
                    (group @ ..14, within) => (group + 1) * 512 + within,
                    (group, within) => (12 - group) * 512 + within,
                }),
            );
            positions.sort_unstable();
        }
        let told = match extension {
            Some(_) => i32::MIN..=i32::MAX,
            None => -512..=511,
        };
        Self { positions, told }
    }
}

fn set_bits(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.iter().enumerate().flat_map(|(at, byte)| {
        (0..8)
            .filter(move |bit| byte >> bit & 1 == 1)
            .map(move |bit| at as i32 * 8 + bit)
    })
}

/// The pool's mint or vault on one side.
pub fn sides(data: &[u8], offsets: [usize; 2]) -> Result<[Pubkey; 2], Refused> {
    Ok([key_at(data, offsets[0])?, key_at(data, offsets[1])?])
}

/// Refuse what the program can do and this module does not.
pub fn check_features(data: &[u8]) -> Result<(), Refused> {
    if u8_at(data, pool::FEE_ON)? != 0 {
        return refuse(
            "fee_on_one_token",
            "the pool takes its fees in one of its tokens only, whichever is given",
        );
    }
    Ok(())
}
