//! The five factors of a confidence in one word: 12 bits each, fixed point, 0 to 4095 for 0 to 1.
//!
//! From the low bits: age, hops, oracle, provider, slippage. Four bits are left, and are 0.

pub const COUNT: usize = 5;
const BITS: usize = 12;
const WHOLE: u64 = (1 << BITS) - 1;

/// `None` when a factor is not within 0 to 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn pack(factors: [f64; COUNT]) -> Option<u64> {
    factors
        .iter()
        .rev()
        .try_fold(0, |packed, factor| match factor {
            0.0..=1.0 => Some(packed << BITS | (factor * WHOLE as f64).round() as u64),
            _ => None,
        })
}

/// The nearest floats; 0 and 1 come back exactly.
pub fn unpack(packed: u64) -> [f64; COUNT] {
    std::array::from_fn(|place| (packed >> (place * BITS) & WHOLE) as f64 / WHOLE as f64)
}

/// The band that a confidence falls into, numbered as in the schemas: skip 0, cautious 1, verify 2, execute 3.
pub fn band(confidence: f64) -> u8 {
    match confidence {
        0.9.. => 3,
        0.7.. => 2,
        0.5.. => 1,
        _ => 0,
    }
}
