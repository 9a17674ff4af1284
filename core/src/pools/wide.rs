//! 256-bit intermediate products, with the widths at which the Whirlpool program overflows.

use ruint::aliases::U256;

/// The full product of two 128-bit integers.
#[inline]
pub fn mul(a: u128, b: u128) -> U256 {
    // 128 x 128 bits always fit in 256.
    U256::from(a).wrapping_mul(U256::from(b))
}

/// `value << 64`, or `None` when a bit of the highest word would be lost.
#[inline]
pub fn shift_word_left(value: U256) -> Option<U256> {
    let limbs = value.as_limbs();
    (limbs[3] == 0).then(|| U256::from_limbs([0, limbs[0], limbs[1], limbs[2]]))
}

/// The low 128 bits, or `None` when the value does not fit in them.
#[inline]
pub fn to_u128(value: U256) -> Option<u128> {
    let limbs = value.as_limbs();
    (limbs[2] == 0 && limbs[3] == 0).then(|| u128::from(limbs[0]) | (u128::from(limbs[1]) << 64))
}

pub const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// The nearest float, give or take a few units in its last place.
#[inline]
pub fn to_float(value: U256) -> f64 {
    value
        .as_limbs()
        .iter()
        .rev()
        .fold(0.0, |sum, limb| sum * TWO_TO_64 + *limb as f64)
}

/// Quotient, rounded up when asked. The denominator must not be zero.
#[inline]
pub fn div(numerator: U256, denominator: U256, round_up: bool) -> U256 {
    let (quotient, remainder) = numerator.div_rem(denominator);
    if round_up && !remainder.is_zero() {
        // A quotient that rounds up is at most numerator / 2.
        quotient.wrapping_add(U256::ONE)
    } else {
        quotient
    }
}

/// `base ^ exponent` for a base of at most one, Q64.64, every product cut off; nothing for exponents of 2^19 and more.
pub fn power_below_one(base: u128, exponent: u32) -> Option<u128> {
    const BITS: u32 = 19;
    if exponent >> BITS != 0 {
        return None;
    }
    let (mut square, mut power) = (base, 1u128 << 64);
    for bit in 0..BITS {
        if exponent >> bit & 1 == 1 {
            power = power.checked_mul(square)? >> 64;
        }
        square = square.checked_mul(square)? >> 64;
    }
    Some(power)
}
