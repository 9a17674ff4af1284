//! Raydium CPMM: constant product over two vaults, less the fees that the pool still owes.

use std::sync::Arc;

use ruint::aliases::U256;

use super::account::{self, Account, Pubkey, bytes_at, key_at, put, u8_at, u64_at};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::{Reader, Writer};
use super::token::{self, TransferFee};
use super::venue::{Family, Protocol, Venue};
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

pub const FAMILY: Family = Family {
    protocol: Protocol::RaydiumCpmm,
    name: "raydium_cpmm",
    parse: |address, accounts, clock| Ok(Arc::new(RaydiumCpmm::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(RaydiumCpmm::read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

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

    fn read(input: &mut Reader<'_>, mints: [Pubkey; 2]) -> Result<Self, Refused> {
        let this = Self {
            mints,
            vaults: input.u64s()?,
            owed: input.u64s()?,
            trade_fee_rate: input.u64()?,
            protocol_fee_rate: input.u64()?,
            fund_fee_rate: input.u64()?,
            creator_fee_rate: input.u64()?,
            creator_fee_on: input.u8()?,
            transfer_fees: [input.transfer_fee()?, input.transfer_fee()?],
        };
        this.check()?;
        Ok(this)
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

impl Venue for RaydiumCpmm {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mints[0], self.mints[1])
    }

    fn quote(&self, order: Order, _: Clock) -> Result<Movement, QuoteError> {
        Ok(self.execute(order)?.0)
    }

    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError> {
        const OVERFLOW: QuoteError = quote_error("overflow");
        let (movement, fees) = self.execute(order)?;
        let (side_in, side_out) = if order.a_to_b { (0, 1) } else { (1, 0) };
        let creator_side = if fees.creator_on_input {
            side_in
        } else {
            side_out
        };
        let mut next = self.clone();
        next.vaults[side_in] += movement.vault_in;
        next.vaults[side_out] -= movement.vault_out;
        let charged = [
            (side_in, fees.protocol),
            (side_in, fees.fund),
            (creator_side, fees.creator),
        ];
        for (side, fee) in charged {
            next.owed[side] = next.owed[side].checked_add(fee).ok_or(OVERFLOW)?;
        }
        if let Some(accounts) = accounts {
            const UNREADABLE: QuoteError = quote_error("account_unreadable");
            let account = accounts
                .iter_mut()
                .find(|account| account.address == address)
                .ok_or(UNREADABLE)?;
            let mut data = account.data.to_vec();
            let offsets = [
                pool::PROTOCOL_FEES[side_in],
                pool::FUND_FEES[side_in],
                pool::CREATOR_FEES[creator_side],
            ];
            for (offset, (_, fee)) in offsets.into_iter().zip(charged) {
                let owed = u64_at(&data, offset).map_err(|_| UNREADABLE)?;
                put(
                    &mut data,
                    offset,
                    &owed.checked_add(fee).ok_or(OVERFLOW)?.to_le_bytes(),
                );
            }
            put(&mut data, pool::RECENT_EPOCH, &clock.epoch().to_le_bytes());
            let vault = |side: usize| key_at(&data, pool::VAULTS[side]).map_err(|_| UNREADABLE);
            let (vault_in, vault_out) = (vault(side_in)?, vault(side_out)?);
            account.data = data.into();
            token::move_balance(accounts, vault_in, movement.vault_in, true)?;
            token::move_balance(accounts, vault_out, movement.vault_out, false)?;
        }
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, _: Clock) -> (U256, U256) {
        constant_product::marginal_rate(self.reserves(a_to_b), self.kept(a_to_b), after)
    }

    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        self.transfer_fees
    }

    fn write(&self, out: &mut Writer) {
        out.u64s(&self.vaults)
            .u64s(&self.owed)
            .u64s(&[self.trade_fee_rate, self.protocol_fee_rate])
            .u64s(&[self.fund_fee_rate, self.creator_fee_rate])
            .u8(self.creator_fee_on)
            .transfer_fee(self.transfer_fees[0])
            .transfer_fee(self.transfer_fees[1]);
    }

    fn info(&self, out: &mut Info<'_>) {
        out.put("reserves", self.reserves(true))
            .put("owed", (self.owed[0], self.owed[1]))
            .put("trade_fee_rate_e6", self.trade_fee_rate)
            .put("protocol_fee_rate_e6", self.protocol_fee_rate)
            .put("fund_fee_rate_e6", self.fund_fee_rate)
            .put("creator_fee_rate_e6", self.creator_fee_rate)
            .put("creator_fee_on", self.creator_fee_on);
    }
}

/// The least amount of which `amount` is left after a fee.
fn before_fee(amount: u128, rate: u128) -> u128 {
    (amount * UNIT).div_ceil(UNIT - rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::testing::{CONFIG, MINTS, POOL, VAULTS, account, vault};

    pub fn samples() -> Vec<Vec<Account>> {
        let pool = account(
            POOL,
            PROGRAM,
            POOL_LENGTH,
            &[
                (0, &POOL_DISCRIMINATOR),
                (pool::CONFIG, &CONFIG.0),
                (pool::VAULTS[0], &VAULTS[0].0),
                (pool::VAULTS[1], &VAULTS[1].0),
                (pool::MINTS[0], &MINTS[0].0),
                (pool::MINTS[1], &MINTS[1].0),
                (pool::CREATOR_FEE_ENABLED, &[1]),
            ],
        );
        let config = account(
            CONFIG,
            PROGRAM,
            CONFIG_LENGTH,
            &[
                (0, &CONFIG_DISCRIMINATOR),
                (config::TRADE_FEE, &2_500u64.to_le_bytes()),
                (config::PROTOCOL_FEE, &120_000u64.to_le_bytes()),
                (config::FUND_FEE, &40_000u64.to_le_bytes()),
                (config::CREATOR_FEE, &500u64.to_le_bytes()),
            ],
        );
        vec![vec![pool, config, vault(0), vault(1)]]
    }
}
