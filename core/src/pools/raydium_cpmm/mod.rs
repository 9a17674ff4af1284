//! Raydium CPMM: constant product over two vaults, less the fees that the pool still owes.

mod venue;

pub use self::venue::FAMILY;

use super::account::{self, Account, Pubkey, bytes_at, key_at, u8_at, u64_at};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::token::{self, TransferFee};
use super::{Clock, Movement, Order, constant_product};

pub const PROGRAM: &str = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C";
const POOL_DISCRIMINATOR: [u8; 8] = [0xf7, 0xed, 0xe3, 0xf5, 0xd7, 0xc3, 0xde, 0x46];
const CONFIG_DISCRIMINATOR: [u8; 8] = [0xda, 0xf4, 0x21, 0x68, 0xcb, 0xcb, 0x2b, 0x6f];
const POOL_LENGTH: usize = 637;
const CONFIG_LENGTH: usize = 236;
const UNIT: u128 = 1_000_000;

mod pool {
    pub const CONFIG: usize = 8;
    pub const VAULTS: [usize; 2] = [72, 104];
    pub const MINTS: [usize; 2] = [168, 200];
    pub const STATUS: usize = 329;
    pub const PROTOCOL_FEES: [usize; 2] = [341, 349];
    pub const FUND_FEES: [usize; 2] = [357, 365];
    pub const OPEN_TIME: usize = 373;
    pub const RECENT_EPOCH: usize = 381;
    pub const CREATOR_FEE_ON: usize = 389;
    pub const CREATOR_FEE_ENABLED: usize = 390;
    pub const CREATOR_FEES: [usize; 2] = [397, 405];
}

mod config {
    pub const TRADE_FEE: usize = 12;
    pub const PROTOCOL_FEE: usize = 20;
    pub const FUND_FEE: usize = 28;
    pub const CREATOR_FEE: usize = 108;
}

/// Everything a CPMM pool's swaps depend on. Rates are millionths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaydiumCpmm {
    pub mints: [Pubkey; 2],
    pub vaults: [u64; 2],
    /// Protocol, fund and creator fees not yet collected.
    pub owed: [u64; 2],
    pub trade_fee_rate: u64,
    pub protocol_fee_rate: u64,
    pub fund_fee_rate: u64,
    /// 0 when the pool charges none.
    pub creator_fee_rate: u64,
    /// Token the creator's fee is taken in: 0 the one given, 1 token a, 2 token b.
    pub creator_fee_on: u8,
    pub transfer_fees: [Option<TransferFee>; 2],
}

/// Fees of one swap, by who gets them.
struct Fees {
    protocol: u64,
    fund: u64,
    creator: u64,
    creator_on_input: bool,
}

impl RaydiumCpmm {
    /// Read a pool from its account, its configuration and both vaults; mints where they charge transfer fees.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let program = Pubkey::parse(PROGRAM)?;
        let find = |key: Pubkey, what: &str| account::find(accounts, key, what);
        let owned = |account: &Account, discriminator: [u8; 8], length: usize, what: &str| {
            if account.owner != program {
                return refuse(
                    "wrong_owner",
                    format!(
                        "{} is owned by {}, not by Raydium CPMM",
                        account.address, account.owner
                    ),
                );
            }
            if bytes_at::<8>(&account.data, 0)? != discriminator {
                return refuse(
                    "wrong_discriminator",
                    format!("{} is not a CPMM {what}", account.address),
                );
            }
            if account.data.len() != length {
                return refuse(
                    "short_data",
                    format!(
                        "a CPMM {what} has {length} bytes, this one {}",
                        account.data.len()
                    ),
                );
            }
            Ok(())
        };
        let pool_account = find(address, "pool")?;
        owned(pool_account, POOL_DISCRIMINATOR, POOL_LENGTH, "pool")?;
        let data = &pool_account.data;
        if u8_at(data, pool::STATUS)? & 4 != 0 {
            return refuse("swap_disabled", "the pool's status forbids swaps");
        }
        let open = u64_at(data, pool::OPEN_TIME)?;
        if u64::try_from(clock.unix_time).unwrap_or(0) < open {
            return refuse("not_open", format!("the pool opens at {open}"));
        }
        let config_key = key_at(data, pool::CONFIG)?;
        let config_account = find(config_key, "configuration")?;
        owned(
            config_account,
            CONFIG_DISCRIMINATOR,
            CONFIG_LENGTH,
            "configuration",
        )?;
        let rates = &config_account.data;
        let mints = [key_at(data, pool::MINTS[0])?, key_at(data, pool::MINTS[1])?];
        let vaults = [
            key_at(data, pool::VAULTS[0])?,
            key_at(data, pool::VAULTS[1])?,
        ];
        token::check_companions(accounts, &vaults, &mints)?;
        let owed = |side: usize| -> Result<u64, Refused> {
            let parts = [
                pool::PROTOCOL_FEES[side],
                pool::FUND_FEES[side],
                pool::CREATOR_FEES[side],
            ];
            parts.iter().try_fold(0u64, |sum, offset| {
                sum.checked_add(u64_at(data, *offset)?)
                    .map_or_else(|| refuse("bad_pool", "fees owed overflow"), Ok)
            })
        };
        let balance = |side: usize| token::vault_balance(find(vaults[side], "vault")?, mints[side]);
        let transfer_fee = |side: usize| {
            token::transfer_fee_of(accounts, mints[side], vaults[side], clock.epoch())
        };
        let creator_fee_rate = match u8_at(data, pool::CREATOR_FEE_ENABLED)? {
            0 => 0,
            _ => u64_at(rates, config::CREATOR_FEE)?,
        };
        let this = Self {
            mints,
            vaults: [balance(0)?, balance(1)?],
            owed: [owed(0)?, owed(1)?],
            trade_fee_rate: u64_at(rates, config::TRADE_FEE)?,
            protocol_fee_rate: u64_at(rates, config::PROTOCOL_FEE)?,
            fund_fee_rate: u64_at(rates, config::FUND_FEE)?,
            creator_fee_rate,
            creator_fee_on: u8_at(data, pool::CREATOR_FEE_ON)?,
            transfer_fees: [transfer_fee(0)?, transfer_fee(1)?],
        };
        this.check()?;
        Ok(this)
    }

    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        let rates = [
            self.trade_fee_rate,
            self.creator_fee_rate,
            self.protocol_fee_rate,
            self.fund_fee_rate,
        ]
        .map(u128::from);
        if rates[0] + rates[1] >= UNIT || rates[2] + rates[3] > UNIT || self.creator_fee_on > 2 {
            return refuse("bad_pool", "the fees of the pool are out of range");
        }
        if (0..2).any(|side| self.owed[side] > self.vaults[side]) {
            return refuse("bad_pool", "more fees are owed than the vaults hold");
        }
        Ok(())
    }

    /// What the pool trades with: (given, taken).
    pub fn reserves(&self, a_to_b: bool) -> (u64, u64) {
        let side = |side: usize| self.vaults[side] - self.owed[side];
        if a_to_b {
            (side(0), side(1))
        } else {
            (side(1), side(0))
        }
    }

    fn creator_on_input(&self, a_to_b: bool) -> bool {
        match self.creator_fee_on {
            0 => true,
            1 => a_to_b,
            _ => !a_to_b,
        }
    }

    /// The share of an infinitesimal swap that the pool's fees leave: (kept, whole).
    pub fn kept(&self, a_to_b: bool) -> (u64, u64) {
        const WHOLE: u64 = UNIT as u64;
        let (trade, creator) = (self.trade_fee_rate, self.creator_fee_rate);
        if self.creator_on_input(a_to_b) {
            (WHOLE - trade - creator, WHOLE)
        } else {
            ((WHOLE - trade) * (WHOLE - creator), WHOLE * WHOLE)
        }
    }

    fn execute(&self, order: Order) -> Result<(Movement, Fees), QuoteError> {
        const OVERFLOW: QuoteError = quote_error("overflow");
        if order.sqrt_price_limit != 0 {
            return Err(quote_error("price_limit_unsupported"));
        }
        let a_to_b = order.a_to_b;
        let (side_in, side_out) = if a_to_b { (0, 1) } else { (1, 0) };
        let (given, taken) = self.reserves(a_to_b);
        if given == 0 || taken == 0 {
            return Err(quote_error("empty_pool"));
        }
        let (x, y) = (u128::from(given), u128::from(taken));
        let (trade_rate, creator_rate) = (
            u128::from(self.trade_fee_rate),
            u128::from(self.creator_fee_rate),
        );
        let on_input = self.creator_on_input(a_to_b);
        if on_input && trade_rate + creator_rate == 0 {
            // The program divides the fee by the sum of both rates.
            return Err(too_small("zero_trading_tokens"));
        }
        let input_rate = trade_rate + if on_input { creator_rate } else { 0 };
        let (fee_in, fee_out) = (self.transfer_fees[side_in], self.transfer_fees[side_out]);
        // `sent` and `received` are the user's; `entered` and `left` are the vaults'.
        let (entered, net, swapped, left) = if order.exact_in {
            let entered = u128::from(fee_in.map_or(order.amount, |fee| fee.after(order.amount)));
            if entered == 0 {
                return Err(too_small("zero_tradable_amount"));
            }
            let net = entered - (entered * input_rate).div_ceil(UNIT);
            let swapped = y * net / (x + net);
            let creator = if on_input {
                0
            } else {
                (swapped * creator_rate).div_ceil(UNIT)
            };
            (entered, net, swapped, swapped - creator)
        } else {
            let left =
                u128::from(fee_out.map_or(Ok(order.amount), |fee| fee.before(order.amount))?);
            let swapped = if on_input {
                left
            } else {
                before_fee(left, creator_rate)
            };
            if swapped >= y {
                return Err(quote_error("insufficient_vault"));
            }
            let net = (x * swapped).div_ceil(y - swapped);
            let entered = net
                .checked_mul(UNIT)
                .map(|gross| gross.div_ceil(UNIT - input_rate))
                .ok_or(OVERFLOW)?;
            (entered, net, swapped, left)
        };
        let narrow = |value: u128| u64::try_from(value).map_err(|_| OVERFLOW);
        let (vault_in, vault_out) = (narrow(entered)?, narrow(left)?);
        let sent = match fee_in {
            _ if order.exact_in => order.amount,
            Some(fee) => fee.before(vault_in)?,
            None => vault_in,
        };
        let received = fee_out.map_or(vault_out, |fee| fee.after(vault_out));
        if sent == 0 || received == 0 {
            return Err(too_small("zero_trading_tokens"));
        }
        self.vaults[side_in].checked_add(vault_in).ok_or(OVERFLOW)?;
        let total_fee = entered - net;
        let creator = if on_input {
            total_fee * creator_rate / input_rate
        } else {
            swapped - left
        };
        let trade_fee = if on_input {
            total_fee - creator
        } else {
            total_fee
        };
        let fees = Fees {
            protocol: narrow(trade_fee * u128::from(self.protocol_fee_rate) / UNIT)?,
            fund: narrow(trade_fee * u128::from(self.fund_fee_rate) / UNIT)?,
            creator: narrow(creator)?,
            creator_on_input: on_input,
        };
        let mut movement = constant_product::movement(
            a_to_b,
            (given, taken),
            vault_in,
            narrow(swapped)?,
            narrow(total_fee)?,
        );
        movement.amount_in = sent;
        movement.amount_out = received;
        movement.vault_out = vault_out;
        Ok((movement, fees))
    }
}

/// The least amount of which `amount` is left after a fee.
fn before_fee(amount: u128, rate: u128) -> u128 {
    (amount * UNIT).div_ceil(UNIT - rate)
}
