//! Where the fields of Meteora's DLMM accounts stand, as of program version 0.12 (its published IDL).

use crate::pools::account::{Pubkey, bytes_at, key_at, u8_at, u64_at, u128_at};
use crate::pools::error::{Refused, refuse};

/// The DLMM program.
pub const PROGRAM: &str = "LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo";

pub const PAIR_DISCRIMINATOR: [u8; 8] = [0x21, 0x0b, 0x31, 0x62, 0xb5, 0x65, 0xb1, 0x0d];
pub const ARRAY_DISCRIMINATOR: [u8; 8] = [0x5c, 0x8e, 0x5c, 0xdc, 0x05, 0x94, 0x46, 0xb5];
pub const EXTENSION_DISCRIMINATOR: [u8; 8] = [0x50, 0x6f, 0x7c, 0x71, 0x37, 0xed, 0x12, 0x05];

pub const PAIR_LENGTH: usize = 904;
pub const ARRAY_LENGTH: usize = 10_136;
pub const EXTENSION_LENGTH: usize = 1_576;

/// Bins in one bin array.
pub const ARRAY_BINS: i32 = 70;
pub const MIN_BIN: i32 = -443_636;
pub const MAX_BIN: i32 = 443_636;
/// The pair's own bitmap marks arrays from minus this to this less one.
pub const OWN_BITMAP: i32 = 512;
/// The extension marks this many groups of 512 arrays more on either side.
const EXTENSION_GROUPS: i32 = 12;

pub mod pair {
    pub const BASE_FACTOR: usize = 8;
    pub const FILTER_PERIOD: usize = 10;
    pub const DECAY_PERIOD: usize = 12;
    pub const REDUCTION_FACTOR: usize = 14;
    pub const VARIABLE_FEE_CONTROL: usize = 16;
    pub const MAX_ACCUMULATOR: usize = 20;
    pub const PROTOCOL_SHARE: usize = 32;
    pub const BASE_FEE_POWER: usize = 34;
    pub const FUNCTION: usize = 35;
    pub const COLLECT_FEE_MODE: usize = 36;
    pub const ACCUMULATOR: usize = 40;
    pub const VOLATILITY_REFERENCE: usize = 44;
    pub const INDEX_REFERENCE: usize = 48;
    pub const UPDATED: usize = 56;
    pub const TYPE: usize = 75;
    pub const ACTIVE: usize = 76;
    pub const BIN_STEP: usize = 80;
    pub const STATUS: usize = 82;
    pub const ACTIVATION_TYPE: usize = 86;
    pub const MINTS: [usize; 2] = [88, 120];
    pub const VAULTS: [usize; 2] = [152, 184];
    pub const PROTOCOL_FEES: [usize; 2] = [216, 224];
    pub const REWARD_MINTS: [usize; 2] = [264, 408];
    pub const BITMAP: usize = 584;
    pub const ACTIVATION_POINT: usize = 816;
    pub const TOKEN_PROGRAMS: [usize; 2] = [880, 881];
    /// 0 until the program has cleared what older versions kept in the fields that now hold limit orders.
    pub const VERSION: usize = 882;
}

pub mod array {
    pub const INDEX: usize = 8;
    pub const PAIR: usize = 24;
    pub const BINS: usize = 56;
}

/// Fields of one bin, from its start.
pub mod bin {
    pub const LENGTH: usize = 144;
    pub const AMOUNTS: [usize; 2] = [0, 8];
    pub const PRICE: usize = 16;
    pub const OPEN_ORDERS: usize = 112;
    pub const PROCESSING_ORDERS: usize = 120;
    pub const PROCESSED_REMAINING: usize = 128;
    pub const ORDER_AGE: usize = 136;
    pub const ASKS: usize = 140;
}

/// What an account of the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Array,
    Extension,
    Other,
}

/// Tell accounts of the program apart by their discriminator.
pub fn kind_of(data: &[u8]) -> Kind {
    match bytes_at::<8>(data, 0) {
        Ok(ARRAY_DISCRIMINATOR) => Kind::Array,
        Ok(EXTENSION_DISCRIMINATOR) => Kind::Extension,
        _ => Kind::Other,
    }
}

/// One price and what is offered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    pub id: i32,
    /// Token b per token a, Q64.64.
    pub price: u128,
    /// Liquidity of providers, tokens a and b.
    pub amounts: [u64; 2],
    /// What is left of limit orders that swaps have begun to fill.
    pub processed: u64,
    /// Limit orders that no swap has touched.
    pub open: u64,
    /// The limit orders sell token a, else token b.
    pub asks: bool,
}

impl Bin {
    /// What a swap can take here, in the order in which it is taken: liquidity, orders begun, orders untouched.
    pub fn layers(&self, a_to_b: bool, orders: bool) -> [u64; 3] {
        let liquidity = self.amounts[usize::from(a_to_b)];
        if orders && self.asks != a_to_b {
            [liquidity, self.processed, self.open]
        } else {
            [liquidity, 0, 0]
        }
    }

    /// All that a swap can take here.
    pub fn capacity(&self, a_to_b: bool, orders: bool) -> u64 {
        let [liquidity, processed, open] = self.layers(a_to_b, orders);
        liquidity.saturating_add(processed).saturating_add(open)
    }

    /// Nothing is offered here in either direction.
    pub fn is_empty(&self) -> bool {
        self.amounts == [0, 0] && self.processed == 0 && self.open == 0
    }
}

fn sized(data: &[u8], length: usize, what: &str) -> Result<(), Refused> {
    if data.len() == length {
        return Ok(());
    }
    refuse(
        "short_data",
        format!("a DLMM {what} has {length} bytes, this one {}", data.len()),
    )
}

/// Index and pair of a bin array.
pub fn array_header(data: &[u8]) -> Result<(i32, Pubkey), Refused> {
    sized(data, ARRAY_LENGTH, "bin array")?;
    let raw = u64_at(data, array::INDEX)? as i64;
    let reach = i64::from(MAX_BIN / ARRAY_BINS + 1);
    if !(-reach..=reach).contains(&raw) {
        return refuse("bad_bin_array", format!("there is no bin array {raw}"));
    }
    // Within reach it fits.
    Ok((raw as i32, key_at(data, array::PAIR)?))
}

/// Start of each bin's data, by id.
pub fn bin_places(index: i32) -> impl Iterator<Item = (i32, usize)> {
    (0..ARRAY_BINS).map(move |offset| {
        let at = array::BINS + offset as usize * bin::LENGTH;
        (index * ARRAY_BINS + offset, at)
    })
}

/// The bins of an array in which anything is offered.
pub fn read_bins(data: &[u8], index: i32) -> Result<Vec<Bin>, Refused> {
    let mut bins = Vec::new();
    for (id, at) in bin_places(index) {
        let this = Bin {
            id,
            price: u128_at(data, at + bin::PRICE)?,
            amounts: [
                u64_at(data, at + bin::AMOUNTS[0])?,
                u64_at(data, at + bin::AMOUNTS[1])?,
            ],
            processed: u64_at(data, at + bin::PROCESSED_REMAINING)?,
            open: u64_at(data, at + bin::OPEN_ORDERS)?,
            asks: u8_at(data, at + bin::ASKS)? != 0,
        };
        if !this.is_empty() {
            bins.push(this);
        }
    }
    Ok(bins)
}

/// The set bits of little-endian words, in order.
fn bits(data: &[u8], at: usize, words: usize) -> Result<Vec<i32>, Refused> {
    let mut set = Vec::new();
    for word in 0..words {
        let mut left = u64_at(data, at + 8 * word)?;
        while left != 0 {
            set.push(word as i32 * 64 + left.trailing_zeros() as i32);
            left &= left - 1;
        }
    }
    Ok(set)
}

/// Indices of the arrays that the pair's own bitmap marks as holding anything.
pub fn own_marks(data: &[u8]) -> Result<Vec<i32>, Refused> {
    let set = bits(data, pair::BITMAP, 16)?;
    Ok(set.into_iter().map(|bit| bit - OWN_BITMAP).collect())
}

/// The pair of a bitmap extension, and the arrays that it marks, in no order.
pub fn extension_marks(data: &[u8]) -> Result<(Pubkey, Vec<i32>), Refused> {
    sized(data, EXTENSION_LENGTH, "bitmap extension")?;
    let words = 8 * EXTENSION_GROUPS as usize;
    let (above, below) = (bits(data, 40, words)?, bits(data, 40 + 8 * words, words)?);
    let marks = above
        .into_iter()
        .map(|bit| OWN_BITMAP + bit)
        .chain(below.into_iter().map(|bit| -OWN_BITMAP - 1 - bit));
    Ok((key_at(data, 8)?, marks.collect()))
}
