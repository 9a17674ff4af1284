//! The accounts of a stake pool: reading them, and writing a swap into them.

use super::{Fee, PROGRAMS, STAKE_PROGRAM, StakePool};
use crate::pools::account::{self, Account, Pubkey, key_at, put, u8_at, u32_at, u64_at};
use crate::pools::error::{QuoteError, Refused, quote_error, refuse};
use crate::pools::staking::SOL;
use crate::pools::{Clock, token};

pub(super) const STAKE_POOL: u8 = 1;
pub(super) const RESERVE: usize = 130;
pub(super) const MINT: usize = 162;
pub(super) const FEE_ACCOUNT: usize = 194;
pub(super) const TOTAL_LAMPORTS: usize = 258;
pub(super) const SUPPLY: usize = 266;
pub(super) const LAST_UPDATE_EPOCH: usize = 274;
/// From here on optional fields move what follows them.
pub(super) const NEXT_EPOCH_FEE: usize = 346;

/// A stake account that delegates nothing, as every reserve is.
pub(super) const INITIALIZED: u32 = 1;
pub(super) const RESERVE_RENT: usize = 4;
pub(super) const RESERVE_LOCKUP: usize = 76;

/// Walks through the fields that have no fixed place.
struct Fields<'a>(&'a [u8], usize);

impl Fields<'_> {
    fn skip(&mut self, bytes: usize) {
        self.1 += bytes;
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        let value = u8_at(self.0, self.1)?;
        self.1 += 1;
        Ok(value)
    }

    fn fee(&mut self) -> Result<Fee, Refused> {
        let (denominator, numerator) = (u64_at(self.0, self.1)?, u64_at(self.0, self.1 + 8)?);
        self.1 += 16;
        Ok(Fee {
            denominator,
            numerator,
        })
    }

    /// Skip a fee that holds from a later epoch on, where there is one; the epoch's update makes it the present one.
    fn future_fee(&mut self) -> Result<(), Refused> {
        match self.byte()? {
            0 => {}
            1 | 2 => self.skip(16),
            other => return refuse("bad_pool", format!("{other} is no kind of future fee")),
        }
        Ok(())
    }

    /// Tell whether an optional address is there.
    fn address(&mut self) -> Result<bool, Refused> {
        match self.byte()? {
            0 => Ok(false),
            1 => {
                self.skip(32);
                Ok(true)
            }
            other => refuse("bad_pool", format!("{other} is neither some nor none")),
        }
    }
}

impl StakePool {
    /// Read a pool from its account and its reserve, which must have come with its lamports.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let pool = account::find(accounts, address, "stake pool")?;
        if !PROGRAMS.contains(&pool.owner.to_string().as_str()) {
            return refuse(
                "wrong_owner",
                format!(
                    "{address} is owned by {}, not by a stake pool program",
                    pool.owner
                ),
            );
        }
        let data = &pool.data;
        if u8_at(data, 0)? != STAKE_POOL {
            return refuse("wrong_discriminator", format!("{address} is no stake pool"));
        }
        let mut fields = Fields(data, NEXT_EPOCH_FEE);
        fields.future_fee()?;
        for _preferred_validator in 0..2 {
            fields.address()?;
        }
        for _stake_fee in 0..2 {
            fields.fee()?;
        }
        fields.future_fee()?;
        fields.skip(1);
        let deposit_open = !fields.address()?;
        let deposit_fee = fields.fee()?;
        let referral = fields.byte()?;
        let withdrawal_open = !fields.address()?;
        let withdrawal_fee = fields.fee()?;
        if referral > 100 {
            return refuse(
                "bad_pool",
                format!("{referral} % of the deposit fee goes to referrers"),
            );
        }
        if !deposit_open && !withdrawal_open {
            return refuse(
                "swap_disabled",
                "deposits and withdrawals of SOL need another signature",
            );
        }
        let mint = key_at(data, MINT)?;
        let manager = key_at(data, FEE_ACCOUNT)?;
        // Where it is not given it is taken to be in order: then both directions cost their fees.
        if let Some(account) = accounts.iter().find(|account| account.address == manager)
            && token::vault_balance(account, mint).is_err()
        {
            return refuse(
                "bad_fee_account",
                format!("{manager} cannot take fees: deposits fail, withdrawals are free"),
            );
        }
        let reserve = account::find(accounts, key_at(data, RESERVE)?, "reserve")?;
        let (rent, locked_until) = read_reserve(reserve)?;
        let this = Self {
            mint,
            sol: Pubkey::parse(SOL)?,
            total_lamports: u64_at(data, TOTAL_LAMPORTS)?,
            supply: u64_at(data, SUPPLY)?,
            last_update_epoch: u64_at(data, LAST_UPDATE_EPOCH)?,
            deposit_fee,
            withdrawal_fee,
            deposit_open,
            withdrawal_open,
            reserve: reserve.lamports,
            reserve_minimum: rent,
            locked_until,
        };
        this.check()?;
        if !this.is_current(clock) {
            return refuse(
                "stale_epoch",
                format!(
                    "the pool was updated in epoch {}, this is {}",
                    this.last_update_epoch,
                    clock.epoch()
                ),
            );
        }
        Ok(this)
    }

    /// Write what a swap that leads to this state changes.
    pub(super) fn patch(
        &self,
        address: Pubkey,
        accounts: &mut [Account],
    ) -> Result<(), QuoteError> {
        const UNREADABLE: QuoteError = quote_error("account_unreadable");
        let find = |accounts: &mut [Account], wanted: Pubkey| {
            accounts
                .iter()
                .position(|account| account.address == wanted)
                .ok_or(UNREADABLE)
        };
        let at = find(accounts, address)?;
        let mut data = accounts[at].data.to_vec();
        put(
            &mut data,
            TOTAL_LAMPORTS,
            &self.total_lamports.to_le_bytes(),
        );
        put(&mut data, SUPPLY, &self.supply.to_le_bytes());
        let reserve = key_at(&data, RESERVE).map_err(|_| UNREADABLE)?;
        accounts[at].data = data.into();
        let at = find(accounts, reserve)?;
        accounts[at].lamports = self.reserve;
        Ok(())
    }
}

/// What must stay in a reserve, and until when all of it must.
fn read_reserve(reserve: &Account) -> Result<(u64, (i64, u64)), Refused> {
    let address = reserve.address;
    if reserve.owner != Pubkey::parse(STAKE_PROGRAM)? {
        return refuse(
            "wrong_owner",
            format!("reserve {address} is no stake account"),
        );
    }
    if u32_at(&reserve.data, 0)? != INITIALIZED {
        return refuse(
            "bad_pool",
            format!("reserve {address} is not in the state of a reserve"),
        );
    }
    if reserve.lamports == 0 {
        return refuse(
            "missing_lamports",
            format!("the balance of reserve {address} is not told"),
        );
    }
    let until = u64_at(&reserve.data, RESERVE_LOCKUP)?.cast_signed();
    Ok((
        u64_at(&reserve.data, RESERVE_RENT)?,
        (until, u64_at(&reserve.data, RESERVE_LOCKUP + 8)?),
    ))
}
