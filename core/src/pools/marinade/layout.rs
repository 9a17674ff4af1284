//! The accounts of Marinade: reading them, and writing a swap into them.

use super::{Marinade, PROGRAM};
use crate::pools::account::{self, Account, Pubkey, key_at, put, u8_at, u32_at, u64_at};
use crate::pools::error::{QuoteError, Refused, quote_error, refuse};
use crate::pools::staking::SOL;
use crate::pools::token;

pub(super) const SYSTEM_PROGRAM: &str = "11111111111111111111111111111111";
pub(super) const SOL_LEG_SEED: &[u8] = b"liq_sol";

/// sha256("account:State"), its first eight bytes.
pub(super) const DISCRIMINATOR: [u8; 8] = [0xd8, 0x92, 0x6b, 0x5e, 0x68, 0x4b, 0xb6, 0xb1];
pub(super) const MINT: usize = 8;
pub(super) const TREASURY: usize = 104;
pub(super) const LEG_RENT: usize = 138;
pub(super) const DELAYED_COOLING_DOWN: usize = 226;
pub(super) const ACTIVE_BALANCE: usize = 376;
pub(super) const SOL_LEG_BUMP: usize = 418;
pub(super) const MSOL_LEG: usize = 420;
pub(super) const LIQUIDITY_TARGET: usize = 452;
pub(super) const MAX_FEE: usize = 460;
pub(super) const MIN_FEE: usize = 464;
pub(super) const TREASURY_CUT: usize = 468;
pub(super) const RESERVE_BALANCE: usize = 496;
pub(super) const SUPPLY: usize = 504;
pub(super) const TICKET_BALANCE: usize = 528;
pub(super) const MIN_DEPOSIT: usize = 544;
pub(super) const MIN_WITHDRAW: usize = 552;
pub(super) const STAKING_CAP: usize = 560;
pub(super) const EMERGENCY_COOLING_DOWN: usize = 568;
pub(super) const PAUSED: usize = 608;

pub(super) const MINT_SUPPLY: usize = 36;
impl Marinade {
    /// Read the state, and both legs of its liquidity pool; the SOL leg must have come with its lamports.
    pub fn parse(address: Pubkey, accounts: &[Account]) -> Result<Self, Refused> {
        let program = Pubkey::parse(PROGRAM)?;
        let find = |key: Pubkey, what: &str| account::find(accounts, key, what);
        let state = find(address, "state")?;
        if state.owner != program {
            return refuse(
                "wrong_owner",
                format!("{address} is owned by {}, not by Marinade", state.owner),
            );
        }
        let data = &state.data;
        if data.get(..8) != Some(&DISCRIMINATOR) {
            return refuse(
                "wrong_discriminator",
                format!("{address} is no Marinade state"),
            );
        }
        match u8_at(data, PAUSED)? {
            0 => {}
            _ => return refuse("paused", "Marinade is paused"),
        }
        let mint = key_at(data, MINT)?;
        let bump = [u8_at(data, SOL_LEG_BUMP)?];
        let sol_leg = find(
            Pubkey::derived(program, &[&address.0, SOL_LEG_SEED, &bump]),
            "SOL leg",
        )?;
        if sol_leg.owner != Pubkey::parse(SYSTEM_PROGRAM)? {
            return refuse(
                "wrong_owner",
                format!("SOL leg {} is owned by a program", sol_leg.address),
            );
        }
        if sol_leg.lamports == 0 {
            return refuse(
                "missing_lamports",
                format!("the balance of SOL leg {} is not told", sol_leg.address),
            );
        }
        let msol_leg = find(key_at(data, MSOL_LEG)?, "mSOL leg")?;
        let reserve = u64_at(data, RESERVE_BALANCE)?;
        let mut under_control = reserve;
        for part in [DELAYED_COOLING_DOWN, EMERGENCY_COOLING_DOWN, ACTIVE_BALANCE] {
            let Some(sum) = under_control.checked_add(u64_at(data, part)?) else {
                return refuse("bad_pool", "there is not so much SOL");
            };
            under_control = sum;
        }
        let supply = u64_at(data, SUPPLY)?;
        let minted = match accounts.iter().find(|account| account.address == mint) {
            None => 0,
            Some(account) => u64_at(&account.data, MINT_SUPPLY)?,
        };
        let this = Self {
            mint,
            sol: Pubkey::parse(SOL)?,
            under_control,
            tickets: u64_at(data, TICKET_BALANCE)?,
            supply,
            reserve,
            min_deposit: u64_at(data, MIN_DEPOSIT)?,
            min_withdraw: u64_at(data, MIN_WITHDRAW)?,
            staking_cap: u64_at(data, STAKING_CAP)?,
            msol_leg: token::vault_balance(msol_leg, mint)?,
            sol_leg: sol_leg.lamports,
            leg_rent: u64_at(data, LEG_RENT)?,
            liquidity_target: u64_at(data, LIQUIDITY_TARGET)?,
            max_fee: u32_at(data, MAX_FEE)?,
            min_fee: u32_at(data, MIN_FEE)?,
            treasury_cut: match takes_cut(accounts, key_at(data, TREASURY)?, mint) {
                true => u32_at(data, TREASURY_CUT)?,
                false => 0,
            },
            deposit_open: minted <= supply,
        };
        this.check()?;
        Ok(this)
    }

    /// Write what a swap that leads from a state to this one changes.
    pub(super) fn patch(
        &self,
        before: &Self,
        address: Pubkey,
        accounts: &mut [Account],
    ) -> Result<(), QuoteError> {
        const UNREADABLE: QuoteError = quote_error("account_unreadable");
        let state = accounts
            .iter_mut()
            .find(|account| account.address == address)
            .ok_or(UNREADABLE)?;
        let mut data = state.data.to_vec();
        put(&mut data, RESERVE_BALANCE, &self.reserve.to_le_bytes());
        put(&mut data, SUPPLY, &self.supply.to_le_bytes());
        let msol_leg = key_at(&data, MSOL_LEG).map_err(|_| UNREADABLE)?;
        let bump = [u8_at(&data, SOL_LEG_BUMP).map_err(|_| UNREADABLE)?];
        let sol_leg = Pubkey::derived(state.owner, &[&address.0, SOL_LEG_SEED, &bump]);
        state.data = data.into();
        let moved = self.msol_leg.abs_diff(before.msol_leg);
        token::move_balance(accounts, msol_leg, moved, self.msol_leg >= before.msol_leg)?;
        let leg = accounts
            .iter_mut()
            .find(|account| account.address == sol_leg)
            .ok_or(UNREADABLE)?;
        leg.lamports = self.sol_leg;
        Ok(())
    }
}

/// Whether the treasury's account can take its part of a fee. One that is not given is taken to be in order.
fn takes_cut(accounts: &[Account], treasury: Pubkey, mint: Pubkey) -> bool {
    accounts
        .iter()
        .find(|account| account.address == treasury)
        .is_none_or(|account| {
            token::is_classic(account) && token::vault_balance(account, mint).is_ok()
        })
}
