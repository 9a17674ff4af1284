//! Tick index <-> square-root price, bit for bit as the Whirlpool program computes them.
//!
//! The table holds sqrt(1.0001^(2^i)) as the program has it: a price of another rounding would place a tick
//! boundary elsewhere and change the amounts.

use crate::pools::wide;

pub const MIN_TICK: i32 = -443_636;
pub const MAX_TICK: i32 = 443_636;
pub const MIN_SQRT_PRICE: u128 = 4_295_048_016;
pub const MAX_SQRT_PRICE: u128 = 79_226_673_515_401_279_992_447_579_055;

/// sqrt(1.0001^(2^i)) in Q32.96, for ticks above zero.
const POSITIVE: [u128; 19] = [
    79_232_123_823_359_799_118_286_999_567,
    79_236_085_330_515_764_027_303_304_731,
    79_244_008_939_048_815_603_706_035_061,
    79_259_858_533_276_714_757_314_932_305,
    79_291_567_232_598_584_799_939_703_904,
    79_355_022_692_464_371_645_785_046_466,
    79_482_085_999_252_804_386_437_311_141,
    79_736_823_300_114_093_921_829_183_326,
    80_248_749_790_819_932_309_965_073_892,
    81_282_483_887_344_747_381_513_967_011,
    83_390_072_131_320_151_908_154_831_281,
    87_770_609_709_833_776_024_991_924_138,
    97_234_110_755_111_693_312_479_820_773,
    119_332_217_159_966_728_226_237_229_890,
    179_736_315_981_702_064_433_883_588_727,
    407_748_233_172_238_350_107_850_275_304,
    2_098_478_828_474_011_932_436_660_412_517,
    55_581_415_166_113_811_149_459_800_483_533,
    38_992_368_544_603_139_932_233_054_999_993_551,
];

/// sqrt(1.0001^-(2^i)) in Q64.64, for ticks below zero.
const NEGATIVE: [u128; 19] = [
    18_445_821_805_675_392_311,
    18_444_899_583_751_176_498,
    18_443_055_278_223_354_162,
    18_439_367_220_385_604_838,
    18_431_993_317_065_449_817,
    18_417_254_355_718_160_513,
    18_387_811_781_193_591_352,
    18_329_067_761_203_520_168,
    18_212_142_134_806_087_854,
    17_980_523_815_641_551_639,
    17_526_086_738_831_147_013,
    16_651_378_430_235_024_244,
    15_030_750_278_693_429_944,
    12_247_334_978_882_834_399,
    8_131_365_268_884_726_200,
    3_584_323_654_723_342_297,
    696_457_651_847_595_233,
    26_294_789_957_452_057,
    37_481_735_321_082,
];

/// Square-root price (Q64.64) of a tick, which must lie in `MIN_TICK..=MAX_TICK`.
pub fn sqrt_price_of_tick(tick: i32) -> u128 {
    debug_assert!((MIN_TICK..=MAX_TICK).contains(&tick));
    let magnitude = tick.unsigned_abs();
    let bits = (0..19).filter(|bit| magnitude >> bit & 1 == 1);
    if tick >= 0 {
        let ratio = bits.fold(1u128 << 96, |ratio, bit| {
            let shifted: ruint::aliases::U256 = wide::mul(ratio, POSITIVE[bit]) >> 96;
            let limbs = shifted.as_limbs();
            u128::from(limbs[0]) | (u128::from(limbs[1]) << 64)
        });
        ratio >> 32
    } else {
        bits.fold(1u128 << 64, |ratio, bit| (ratio * NEGATIVE[bit]) >> 64)
    }
}

/// The greatest tick whose price is not above `sqrt_price`, which must lie in `MIN_SQRT_PRICE..=MAX_SQRT_PRICE`.
///
/// A 14-bit binary logarithm gives two candidates, as in the program; the exact price of the upper one decides.
pub fn tick_of_sqrt_price(sqrt_price: u128) -> i32 {
    debug_assert!((MIN_SQRT_PRICE..=MAX_SQRT_PRICE).contains(&sqrt_price));
    const LOG_B_2_X32: i128 = 59_543_866_431_248; // log2 -> log sqrt(1.0001)
    const ERROR_LOW_X64: i128 = 184_467_440_737_095_516; // 0.01
    const ERROR_HIGH_X64: i128 = 15_793_534_762_490_258_745; // 2^-14 / log2(sqrt(1.0001)) + 0.01
    let most_significant = 127 - sqrt_price.leading_zeros();
    let integer_x32 = (i128::from(most_significant) - 64) << 32;
    let mut r = if most_significant >= 64 {
        sqrt_price >> (most_significant - 63)
    } else {
        sqrt_price << (63 - most_significant)
    };
    let mut fraction_x64 = 0i128;
    for bit in 0..14 {
        r *= r;
        let above_two = r >> 127;
        r >>= 63 + above_two;
        fraction_x64 += (1i128 << (63 - bit)) * above_two as i128;
    }
    let log_x64 = (integer_x32 + (fraction_x64 >> 32)) * LOG_B_2_X32;
    let low = ((log_x64 - ERROR_LOW_X64) >> 64) as i32;
    let high = ((log_x64 + ERROR_HIGH_X64) >> 64) as i32;
    if low != high && high <= MAX_TICK && sqrt_price_of_tick(high) <= sqrt_price {
        high
    } else {
        low
    }
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
        assert_eq!(tick_of_sqrt_price(MAX_SQRT_PRICE), MAX_TICK);
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
