//! Tick index <-> square-root price, bit for bit as Raydium's CLMM program computes them.
//!
//! The bounds are Whirlpool's, the prices are not: the table is another, and prices above one are reciprocals.
//! Source of the figures: raydium-io/raydium-clmm, programs/amm/src/libraries/tick_math.rs.

pub const MIN_TICK: i32 = -443_636;
pub const MAX_TICK: i32 = 443_636;
pub const MIN_SQRT_PRICE: u128 = 4_295_048_016;
pub const MAX_SQRT_PRICE: u128 = 79_226_673_521_066_979_257_578_248_091;

/// sqrt(1.0001^-(2^i)) in Q64.64, with the program's precision.
const FACTORS: [u128; 19] = [
    18_445_821_805_675_395_072,
    18_444_899_583_751_176_192,
    18_443_055_278_223_355_904,
    18_439_367_220_385_607_680,
    18_431_993_317_065_453_568,
    18_417_254_355_718_170_624,
    18_387_811_781_193_609_216,
    18_329_067_761_203_558_400,
    18_212_142_134_806_163_456,
    17_980_523_815_641_700_352,
    17_526_086_738_831_433_728,
    16_651_378_430_235_570_176,
    15_030_750_278_694_412_288,
    12_247_334_978_884_435_968,
    8_131_365_268_886_854_656,
    3_584_323_654_725_218_816,
    696_457_651_848_324_352,
    26_294_789_957_507_116,
    37_481_735_321_082,
];

/// Square-root price (Q64.64) of a tick, which must lie in `MIN_TICK..=MAX_TICK`.
pub fn sqrt_price_of_tick(tick: i32) -> u128 {
    debug_assert!((MIN_TICK..=MAX_TICK).contains(&tick));
    let magnitude = tick.unsigned_abs();
    let ratio = FACTORS
        .iter()
        .enumerate()
        .filter(|(bit, _)| magnitude >> bit & 1 == 1)
        // Ratios are at most 2^64 and factors below it.
        .fold(1u128 << 64, |ratio, (_, factor)| (ratio * factor) >> 64);
    if tick > 0 { u128::MAX / ratio } else { ratio }
}

/// The greatest tick whose price is not above `sqrt_price`, which must lie in `MIN_SQRT_PRICE..MAX_SQRT_PRICE`.
///
/// The program takes a 16-bit logarithm for two candidates and lets the exact price decide; a float is as near.
pub fn tick_of_sqrt_price(sqrt_price: u128) -> i32 {
    debug_assert!((MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&sqrt_price));
    let ratio = sqrt_price as f64 / 18_446_744_073_709_551_616.0;
    let near = (ratio.ln() * 2.0 / 1.0001f64.ln()).round() as i32;
    let mut tick = near.clamp(MIN_TICK, MAX_TICK - 1);
    while sqrt_price_of_tick(tick) > sqrt_price {
        tick -= 1;
    }
    while sqrt_price_of_tick(tick + 1) <= sqrt_price {
        tick += 1;
    }
    tick
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_the_range() {
        assert_eq!(sqrt_price_of_tick(MIN_TICK), MIN_SQRT_PRICE);
        assert_eq!(sqrt_price_of_tick(MAX_TICK), MAX_SQRT_PRICE);
        assert_eq!(sqrt_price_of_tick(0), 1 << 64);
        assert_eq!(tick_of_sqrt_price(MIN_SQRT_PRICE), MIN_TICK);
        assert_eq!(tick_of_sqrt_price(MAX_SQRT_PRICE - 1), MAX_TICK - 1);
    }

    #[test]
    fn every_price_falls_on_its_tick() {
        for tick in (MIN_TICK..MAX_TICK).step_by(61).chain(-300..300) {
            let price = sqrt_price_of_tick(tick);
            assert_eq!(tick_of_sqrt_price(price), tick);
            if tick > MIN_TICK {
                assert_eq!(tick_of_sqrt_price(price - 1), tick - 1);
            }
        }
    }
}
