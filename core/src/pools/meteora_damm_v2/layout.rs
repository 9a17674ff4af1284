//! Where the fields of Meteora's DAMM v2 pools stand, as of program version 0.2.

/// The DAMM v2 (cp-amm) program.
pub const PROGRAM: &str = "cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG";
pub const DISCRIMINATOR: [u8; 8] = [0xf1, 0x9a, 0x6d, 0x04, 0x11, 0xb1, 0x6d, 0xbc];
pub const LENGTH: usize = 1_112;

pub const CLIFF_FEE: usize = 8;
pub const BASE_FEE_MODE: usize = 16;
/// Number of periods, or the limiter's increment.
pub const FIRST_FACTOR: usize = 22;
/// Eight bytes: the period's length, or two figures of four bytes.
pub const SECOND_FACTOR: usize = 24;
pub const THIRD_FACTOR: usize = 32;
pub const PROTOCOL_FEE_PERCENT: usize = 48;
pub const COMPOUNDING_FEE: usize = 54;
pub const DYNAMIC: usize = 56;
pub const MAX_ACCUMULATOR: usize = 64;
pub const VARIABLE_FEE_CONTROL: usize = 68;
pub const BIN_STEP: usize = 72;
pub const FILTER_PERIOD: usize = 74;
pub const DECAY_PERIOD: usize = 76;
pub const REDUCTION_FACTOR: usize = 78;
pub const UPDATED: usize = 80;
pub const BIN_STEP_X64: usize = 88;
pub const PRICE_REFERENCE: usize = 104;
pub const ACCUMULATOR: usize = 120;
pub const VOLATILITY_REFERENCE: usize = 136;
pub const INITIAL_PRICE: usize = 152;
pub const MINTS: [usize; 2] = [168, 200];
pub const VAULTS: [usize; 2] = [232, 264];
pub const LIQUIDITY: usize = 360;
pub const PROTOCOL_FEES: [usize; 2] = [392, 400];
pub const LOWEST_PRICE: usize = 424;
pub const HIGHEST_PRICE: usize = 440;
pub const SQRT_PRICE: usize = 456;
pub const ACTIVATION_POINT: usize = 472;
pub const ACTIVATION_TYPE: usize = 480;
pub const STATUS: usize = 481;
pub const TOKEN_PROGRAMS: [usize; 2] = [482, 483];
pub const COLLECT_FEE_MODE: usize = 484;
pub const FEE_VERSION: usize = 486;
/// What the pool trades with; kept since layout version 1 only.
pub const RESERVES: [usize; 2] = [680, 688];
pub const LAYOUT_VERSION: usize = 696;
