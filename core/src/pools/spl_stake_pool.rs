//! SPL stake pools as a venue between their token (a) and SOL (b): DepositSol and WithdrawSol.
//!
//! Source of layout and formulas: solana-program/stake-pool (Apache-2.0), `state.rs` and `processor.rs`. What the pool
//! itself says of its token's supply counts, not the mint.

use std::sync::Arc;

use ruint::aliases::U256;

use super::account::{self, Account, Pubkey, key_at, put, u8_at, u32_at, u64_at};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::{Reader, Writer};
use super::venue::{Family, Protocol, Venue};
use super::{Clock, Movement, Order, token};

/// The program, and Sanctum's two deployments of it.
pub const PROGRAMS: [&str; 3] = [
    "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy",
    "SP12tWFxD9oJsVWNavTTBZvMbA6gkAmxtVgxdqvyvhY",
    "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn",
];
pub const STAKE_PROGRAM: &str = "Stake11111111111111111111111111111111111111";
pub const SOL: &str = "So11111111111111111111111111111111111111112";

const STAKE_POOL: u8 = 1;
const RESERVE: usize = 130;
const MINT: usize = 162;
const FEE_ACCOUNT: usize = 194;
const TOTAL_LAMPORTS: usize = 258;
const SUPPLY: usize = 266;
const LAST_UPDATE_EPOCH: usize = 274;
/// From here on optional fields move what follows them.
const NEXT_EPOCH_FEE: usize = 346;

/// A stake account that delegates nothing, as every reserve is.
const INITIALIZED: u32 = 1;
const RESERVE_RENT: usize = 4;
const RESERVE_LOCKUP: usize = 76;

const FAILED: QuoteError = quote_error("calculation_failure");

pub const FAMILY: Family = Family {
    protocol: Protocol::SplStakePool,
    name: "spl_stake_pool",
    parse: |address, accounts, clock| Ok(Arc::new(StakePool::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(StakePool::read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

/// Part of an amount, rounded up when it is taken; nothing where the denominator is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    pub denominator: u64,
    pub numerator: u64,
}

impl Fee {
    fn of(self, amount: u64) -> u64 {
        if self.denominator == 0 {
            return 0;
        }
        let fee = (u128::from(amount) * u128::from(self.numerator))
            .div_ceil(u128::from(self.denominator));
        // The numerator is at most the denominator, so the fee is at most the amount.
        fee as u64
    }

    /// What it leaves, as a fraction.
    fn kept(self) -> (u64, u64) {
        match self.denominator {
            0 => (1, 1),
            whole => (whole - self.numerator, whole),
        }
    }
}

/// Everything that the swaps of a stake pool depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakePool {
    pub mint: Pubkey,
    pub sol: Pubkey,
    pub total_lamports: u64,
    pub supply: u64,
    pub last_update_epoch: u64,
    pub deposit_fee: Fee,
    pub withdrawal_fee: Fee,
    /// False where somebody else must sign.
    pub deposit_open: bool,
    pub withdrawal_open: bool,
    /// Lamports of the reserve, all of them and those that must stay.
    pub reserve: u64,
    pub reserve_minimum: u64,
    /// Nothing leaves the reserve before this second and this epoch.
    pub locked_until: (i64, u64),
}

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

    /// Refuse figures that no working pool has.
    fn check(&self) -> Result<(), Refused> {
        for fee in [self.deposit_fee, self.withdrawal_fee] {
            if fee.denominator != 0 && fee.numerator > fee.denominator {
                return refuse(
                    "bad_pool",
                    format!("a fee of {}/{}", fee.numerator, fee.denominator),
                );
            }
        }
        Ok(())
    }

    fn read(input: &mut Reader<'_>, [mint, sol]: [Pubkey; 2]) -> Result<Self, Refused> {
        let mut fee = || {
            Ok(Fee {
                denominator: input.u64()?,
                numerator: input.u64()?,
            })
        };
        let (deposit_fee, withdrawal_fee) = (fee()?, fee()?);
        let this = Self {
            mint,
            sol,
            deposit_fee,
            withdrawal_fee,
            total_lamports: input.u64()?,
            supply: input.u64()?,
            last_update_epoch: input.u64()?,
            deposit_open: input.flag()?,
            withdrawal_open: input.flag()?,
            reserve: input.u64()?,
            reserve_minimum: input.u64()?,
            locked_until: (input.i64()?, input.u64()?),
        };
        this.check()?;
        Ok(this)
    }

    fn is_current(&self, clock: Clock) -> bool {
        self.last_update_epoch >= clock.epoch()
    }

    fn is_locked(&self, clock: Clock) -> bool {
        let (second, epoch) = self.locked_until;
        second > clock.unix_time || epoch > clock.epoch()
    }

    /// Lamports per unit of the token as a fraction, where there are any.
    fn rate(&self) -> Option<(u64, u64)> {
        (self.total_lamports > 0 && self.supply > 0).then_some((self.total_lamports, self.supply))
    }

    /// What a swap in this direction needs besides a good amount.
    fn permitted(&self, withdrawal: bool, clock: Clock) -> Result<(), QuoteError> {
        match withdrawal {
            true if !self.withdrawal_open => Err(quote_error("invalid_sol_withdraw_authority")),
            false if !self.deposit_open => Err(quote_error("invalid_sol_deposit_authority")),
            _ if !self.is_current(clock) => Err(quote_error("stake_list_and_pool_out_of_date")),
            true if self.is_locked(clock) => Err(quote_error("lockup_in_force")),
            _ => Ok(()),
        }
    }

    /// Tokens for a deposit, and how many of them are the fee.
    fn deposit(&self, lamports: u64) -> Result<(u64, u64), QuoteError> {
        let minted = match self.rate() {
            None => lamports,
            Some((total, supply)) => scaled(lamports, supply, total)?,
        };
        let fee = self.deposit_fee.of(minted);
        if minted == fee {
            return Err(too_small("deposit_too_small"));
        }
        self.supply.checked_add(minted).ok_or(FAILED)?;
        self.total_lamports.checked_add(lamports).ok_or(FAILED)?;
        self.reserve.checked_add(lamports).ok_or(FAILED)?;
        Ok((minted, fee))
    }

    /// Lamports for tokens, and how many of the tokens are the fee.
    fn withdraw(&self, tokens: u64) -> Result<(u64, u64), QuoteError> {
        let fee = self.withdrawal_fee.of(tokens);
        let burnt = tokens - fee;
        let lamports = match self.supply {
            0 => 0,
            supply => scaled(burnt, self.total_lamports, supply)?,
        };
        if lamports == 0 {
            return Err(too_small("withdrawal_too_small"));
        }
        let left = self.reserve.checked_sub(lamports);
        if left.is_none_or(|left| left < self.reserve_minimum) {
            return Err(quote_error("sol_withdrawal_too_large"));
        }
        self.supply.checked_sub(burnt).ok_or(FAILED)?;
        self.total_lamports.checked_sub(lamports).ok_or(FAILED)?;
        Ok((lamports, fee))
    }
}

/// `amount * numerator / denominator`, rounded down. The denominator is not 0.
fn scaled(amount: u64, numerator: u64, denominator: u64) -> Result<u64, QuoteError> {
    u64::try_from(u128::from(amount) * u128::from(numerator) / u128::from(denominator))
        .map_err(|_| FAILED)
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

impl Venue for StakePool {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mint, self.sol)
    }

    fn quote(&self, order: Order, clock: Clock) -> Result<Movement, QuoteError> {
        if order.sqrt_price_limit != 0 {
            return Err(quote_error("price_limit_unsupported"));
        }
        if !order.exact_in {
            return Err(quote_error("exact_out_unsupported"));
        }
        self.permitted(order.a_to_b, clock)?;
        let (amount_out, fee_amount) = if order.a_to_b {
            self.withdraw(order.amount)?
        } else {
            let (minted, fee) = self.deposit(order.amount)?;
            // The fee is taken in tokens: in lamports it is what they are worth, at most all that was given.
            let worth = match self.rate() {
                None => u128::from(fee),
                Some((total, supply)) => {
                    (u128::from(fee) * u128::from(total)).div_ceil(u128::from(supply))
                }
            };
            let worth = u64::try_from(worth).unwrap_or(u64::MAX).min(order.amount);
            (minted - fee, worth)
        };
        let price = self
            .rate()
            .map_or(1.0, |(total, supply)| total as f64 / supply as f64);
        Ok(Movement {
            amount_in: order.amount,
            amount_out,
            vault_in: order.amount,
            vault_out: amount_out,
            fee_amount,
            price_before: price,
            // A stake pool has one price for all amounts.
            price_after: price,
            sqrt_price_after: 0,
            fee_rate: 0,
            ticks_crossed: 0,
        })
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
        if order.a_to_b {
            let (lamports, fee) = self.withdraw(order.amount)?;
            next.supply -= order.amount - fee;
            next.total_lamports -= lamports;
            next.reserve -= lamports;
        } else {
            next.supply += self.deposit(order.amount)?.0;
            next.total_lamports += order.amount;
            next.reserve += order.amount;
        }
        if let Some(accounts) = accounts {
            const UNREADABLE: QuoteError = quote_error("account_unreadable");
            let find = |accounts: &mut Vec<Account>, wanted: Pubkey| {
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
                &next.total_lamports.to_le_bytes(),
            );
            put(&mut data, SUPPLY, &next.supply.to_le_bytes());
            let reserve = key_at(&data, RESERVE).map_err(|_| UNREADABLE)?;
            accounts[at].data = data.into();
            let at = find(accounts, reserve)?;
            accounts[at].lamports = next.reserve;
        }
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, _: Option<&Movement>, clock: Clock) -> (U256, U256) {
        let closed = (U256::ZERO, U256::ONE);
        if self.permitted(a_to_b, clock).is_err() {
            return closed;
        }
        let ((total, supply), fee) = match self.rate() {
            Some(rate) if a_to_b => (rate, self.withdrawal_fee),
            Some((total, supply)) => ((supply, total), self.deposit_fee),
            None if a_to_b => return closed,
            None => ((1, 1), self.deposit_fee),
        };
        let (kept, whole) = fee.kept();
        let wide = |a: u64, b: u64| U256::from(u128::from(a) * u128::from(b));
        (wide(total, kept), wide(supply, whole))
    }

    fn fair_rate(&self) -> Option<(u64, u64)> {
        self.rate()
    }

    fn unstake_rate(&self, clock: Clock) -> Option<(u128, u128)> {
        let (total, supply) = self.rate()?;
        self.permitted(true, clock).ok()?;
        let (kept, whole) = self.withdrawal_fee.kept();
        Some((
            u128::from(total) * u128::from(kept),
            u128::from(supply) * u128::from(whole),
        ))
    }

    fn write(&self, out: &mut Writer) {
        for fee in [self.deposit_fee, self.withdrawal_fee] {
            out.u64s(&[fee.denominator, fee.numerator]);
        }
        out.u64s(&[self.total_lamports, self.supply, self.last_update_epoch])
            .u8(u8::from(self.deposit_open))
            .u8(u8::from(self.withdrawal_open))
            .u64s(&[self.reserve, self.reserve_minimum])
            .i64(self.locked_until.0)
            .u64(self.locked_until.1);
    }

    fn info(&self, out: &mut Info<'_>) {
        let fee = |fee: Fee| (fee.numerator, fee.denominator);
        out.put("total_lamports", self.total_lamports)
            .put("supply", self.supply)
            .put("last_update_epoch", self.last_update_epoch)
            .put("deposit_fee", fee(self.deposit_fee))
            .put("withdrawal_fee", fee(self.withdrawal_fee))
            .put("deposit_open", self.deposit_open)
            .put("withdrawal_open", self.withdrawal_open)
            .put(
                "available_lamports",
                self.reserve.saturating_sub(self.reserve_minimum),
            )
            .put("locked_until", self.locked_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::testing::{CLOCK, CONFIG, MINTS, POOL, account};

    const LENGTH: usize = 611;

    fn pool(total: u64, supply: u64) -> Account {
        let ten_thousand = 10_000u64.to_le_bytes();
        account(
            POOL,
            PROGRAMS[0],
            LENGTH,
            &[
                (0, &[STAKE_POOL]),
                (RESERVE, &CONFIG.0),
                (MINT, &MINTS[0].0),
                (TOTAL_LAMPORTS, &total.to_le_bytes()),
                (SUPPLY, &supply.to_le_bytes()),
                (LAST_UPDATE_EPOCH, &CLOCK.epoch().to_le_bytes()),
                // No optional field is there: deposit fee at 384, withdrawal fee at 402.
                (384, &ten_thousand),
                (392, &8u64.to_le_bytes()),
                (402, &ten_thousand),
                (410, &10u64.to_le_bytes()),
            ],
        )
    }

    fn reserve() -> Account {
        let mut reserve = account(
            CONFIG,
            STAKE_PROGRAM,
            200,
            &[
                (0, &INITIALIZED.to_le_bytes()),
                (RESERVE_RENT, &2_282_880u64.to_le_bytes()),
            ],
        );
        reserve.lamports = 5_000_000_000_000;
        reserve
    }

    pub fn samples() -> Vec<Vec<Account>> {
        let of = |total, supply| vec![pool(total, supply), reserve()];
        vec![
            of(1_144_546_482_246_437, 934_784_722_219_576),
            of(0, 0),
            of(1_000_000_000, u64::MAX - 5),
        ]
    }

    #[test]
    fn offsets_of_the_sample_are_those_read() {
        let pool = StakePool::parse(POOL, &samples()[0], CLOCK).expect("a pool");
        let fee = |numerator| Fee {
            denominator: 10_000,
            numerator,
        };
        assert_eq!((pool.deposit_fee, pool.withdrawal_fee), (fee(8), fee(10)));
        assert_eq!(pool.deposit(1_000_000_000), Ok((816_729_365, 653_384)));
        assert_eq!(pool.withdraw(1_000_000_000), Ok((1_223_171_398, 1_000_000)));
    }
}
