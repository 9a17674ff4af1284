//! Raydium AMM v4: constant product over two vaults, less the profit that the pool still owes its owner.

use std::sync::Arc;

use ruint::aliases::U256;

use super::account::{self, Account, Pubkey, key_at, u64_at};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::{Reader, Writer};
use super::venue::{Family, Protocol, Venue};
use super::{Clock, Movement, Order, constant_product, token};

pub const PROGRAM: &str = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8";
const LENGTH: usize = 752;
const STATUS: usize = 0;
const SWAP_FEE_NUMERATOR: usize = 176;
const SWAP_FEE_DENOMINATOR: usize = 184;
const NEED_TAKE_PNL_COIN: usize = 192;
const NEED_TAKE_PNL_PC: usize = 200;
const OPEN_TIME: usize = 224;
const COIN_VAULT: usize = 336;
const PC_VAULT: usize = 368;
const COIN_MINT: usize = 400;
const PC_MINT: usize = 432;

const SWAP_ONLY: u64 = 6;
const WAITING_TRADE: u64 = 7;

pub const FAMILY: Family = Family {
    protocol: Protocol::RaydiumV4,
    name: "raydium_amm_v4",
    parse: |address, accounts, clock| Ok(Arc::new(RaydiumV4::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(RaydiumV4::read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

/// Everything an AMM v4 pool's swaps depend on. Token a is the coin, token b the pc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaydiumV4 {
    pub mint_a: Pubkey,
    pub mint_b: Pubkey,
    pub vault_a: u64,
    pub vault_b: u64,
    pub owed_a: u64,
    pub owed_b: u64,
    pub fee_numerator: u64,
    pub fee_denominator: u64,
}

impl RaydiumV4 {
    /// Read a pool from its account and both vaults.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let find = |key: Pubkey, what: &str| account::find(accounts, key, what);
        let pool = find(address, "pool")?;
        if pool.owner != Pubkey::parse(PROGRAM)? {
            return refuse(
                "wrong_owner",
                format!(
                    "{address} is owned by {}, not by Raydium AMM v4",
                    pool.owner
                ),
            );
        }
        let data = &pool.data;
        if data.len() != LENGTH {
            return refuse(
                "short_data",
                format!(
                    "an AMM v4 account has {LENGTH} bytes, this one {}",
                    data.len()
                ),
            );
        }
        match u64_at(data, STATUS)? {
            SWAP_ONLY => {}
            WAITING_TRADE => {
                let open = u64_at(data, OPEN_TIME)?;
                if u64::try_from(clock.unix_time).unwrap_or(0) < open {
                    return refuse("not_open", format!("the pool opens at {open}"));
                }
            }
            status => return refuse("swap_disabled", format!("status {status} allows no swap")),
        }
        let (coin, pc) = (key_at(data, COIN_MINT)?, key_at(data, PC_MINT)?);
        let (coin_vault, pc_vault) = (key_at(data, COIN_VAULT)?, key_at(data, PC_VAULT)?);
        token::check_companions(accounts, &[coin_vault, pc_vault], &[coin, pc])?;
        for vault in [coin_vault, pc_vault] {
            if !token::is_classic(find(vault, "vault")?) {
                return refuse(
                    "wrong_owner",
                    format!("vault {vault} is not under the classic token program"),
                );
            }
        }
        let this = Self {
            mint_a: coin,
            mint_b: pc,
            vault_a: token::vault_balance(find(coin_vault, "vault")?, coin)?,
            vault_b: token::vault_balance(find(pc_vault, "vault")?, pc)?,
            owed_a: u64_at(data, NEED_TAKE_PNL_COIN)?,
            owed_b: u64_at(data, NEED_TAKE_PNL_PC)?,
            fee_numerator: u64_at(data, SWAP_FEE_NUMERATOR)?,
            fee_denominator: u64_at(data, SWAP_FEE_DENOMINATOR)?,
        };
        this.check()?;
        Ok(this)
    }

    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        if self.fee_numerator >= self.fee_denominator {
            return refuse(
                "bad_pool",
                format!("fee {}/{}", self.fee_numerator, self.fee_denominator),
            );
        }
        if self.owed_a > self.vault_a || self.owed_b > self.vault_b {
            return refuse("bad_pool", "more profit is owed than the vaults hold");
        }
        Ok(())
    }

    /// What the pool trades with: (given, taken).
    pub fn reserves(&self, a_to_b: bool) -> (u64, u64) {
        let (a, b) = (self.vault_a - self.owed_a, self.vault_b - self.owed_b);
        if a_to_b { (a, b) } else { (b, a) }
    }

    fn read(input: &mut Reader<'_>, [mint_a, mint_b]: [Pubkey; 2]) -> Result<Self, Refused> {
        let this = Self {
            mint_a,
            mint_b,
            vault_a: input.u64()?,
            vault_b: input.u64()?,
            owed_a: input.u64()?,
            owed_b: input.u64()?,
            fee_numerator: input.u64()?,
            fee_denominator: input.u64()?,
        };
        this.check()?;
        Ok(this)
    }
}

impl Venue for RaydiumV4 {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mint_a, self.mint_b)
    }

    fn quote(&self, order: Order, _: Clock) -> Result<Movement, QuoteError> {
        const OVERFLOW: QuoteError = quote_error("overflow");
        if order.sqrt_price_limit != 0 {
            return Err(quote_error("price_limit_unsupported"));
        }
        let (given, taken) = self.reserves(order.a_to_b);
        if given == 0 || taken == 0 {
            return Err(quote_error("empty_pool"));
        }
        let (x, y) = (u128::from(given), u128::from(taken));
        let (numerator, denominator) = (
            u128::from(self.fee_numerator),
            u128::from(self.fee_denominator),
        );
        let amount = u128::from(order.amount);
        let (amount_in, net, amount_out) = if order.exact_in {
            let fee = (amount * numerator).div_ceil(denominator);
            let net = amount - fee;
            (amount, net, y * net / (x + net))
        } else {
            if amount >= y {
                return Err(quote_error("insufficient_funds"));
            }
            let net = (x * amount).div_ceil(y - amount);
            let gross = net.checked_mul(denominator).ok_or(OVERFLOW)?;
            (gross.div_ceil(denominator - numerator), net, amount)
        };
        if amount_in == 0 || amount_out == 0 {
            return Err(too_small("invalid_input"));
        }
        let (amount_in, amount_out) = (
            u64::try_from(amount_in).map_err(|_| OVERFLOW)?,
            amount_out as u64,
        );
        let vault = if order.a_to_b {
            self.vault_a
        } else {
            self.vault_b
        };
        vault.checked_add(amount_in).ok_or(OVERFLOW)?;
        Ok(constant_product::movement(
            order.a_to_b,
            (given, taken),
            amount_in,
            amount_out,
            (amount_in as u128 - net) as u64,
        ))
    }

    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError> {
        let movement = self.quote(order, clock)?;
        let mut next = self.clone();
        let (vault_in, vault_out) = if order.a_to_b {
            (&mut next.vault_a, &mut next.vault_b)
        } else {
            (&mut next.vault_b, &mut next.vault_a)
        };
        *vault_in += movement.vault_in;
        *vault_out -= movement.vault_out;
        if let Some(accounts) = accounts {
            const UNREADABLE: QuoteError = quote_error("account_unreadable");
            let data = accounts
                .iter()
                .find(|account| account.address == address)
                .map(|account| account.data.clone())
                .ok_or(UNREADABLE)?;
            let (at_in, at_out) = if order.a_to_b {
                (COIN_VAULT, PC_VAULT)
            } else {
                (PC_VAULT, COIN_VAULT)
            };
            let vault = |offset| key_at(&data, offset).map_err(|_| UNREADABLE);
            token::move_balance(accounts, vault(at_in)?, movement.vault_in, true)?;
            token::move_balance(accounts, vault(at_out)?, movement.vault_out, false)?;
        }
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, _: Clock) -> (U256, U256) {
        let share = (
            self.fee_denominator - self.fee_numerator,
            self.fee_denominator,
        );
        constant_product::marginal_rate(self.reserves(a_to_b), share, after)
    }

    fn write(&self, out: &mut Writer) {
        out.u64s(&[self.vault_a, self.vault_b, self.owed_a, self.owed_b])
            .u64s(&[self.fee_numerator, self.fee_denominator]);
    }

    fn info(&self, out: &mut Info<'_>) {
        out.put("reserves", self.reserves(true))
            .put("owed", (self.owed_a, self.owed_b))
            .put("fee_numerator", self.fee_numerator)
            .put("fee_denominator", self.fee_denominator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::testing::{MINTS, POOL, VAULTS, account, vault};

    pub fn samples() -> Vec<Vec<Account>> {
        let pool = account(
            POOL,
            PROGRAM,
            LENGTH,
            &[
                (STATUS, &SWAP_ONLY.to_le_bytes()),
                (SWAP_FEE_NUMERATOR, &25u64.to_le_bytes()),
                (SWAP_FEE_DENOMINATOR, &10_000u64.to_le_bytes()),
                (NEED_TAKE_PNL_COIN, &77u64.to_le_bytes()),
                (COIN_VAULT, &VAULTS[0].0),
                (PC_VAULT, &VAULTS[1].0),
                (COIN_MINT, &MINTS[0].0),
                (PC_MINT, &MINTS[1].0),
            ],
        );
        vec![vec![pool, vault(0), vault(1)]]
    }
}
