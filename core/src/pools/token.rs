//! SPL Token and Token-2022 accounts, as far as pools need them: balances, and the fee that a transfer costs.

use super::account::{Account, Pubkey, key_at, put, u8_at, u16_at, u64_at};
use super::error::{QuoteError, Refused, quote_error, refuse};

const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const TOKEN_2022: &str = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";

const ACCOUNT_LENGTH: usize = 165;
const MINT_LENGTH: usize = 82;
const BALANCE: usize = 64;
const STATE: usize = 108;
const FROZEN: u8 = 2;
const MINT_INITIALIZED: usize = 45;
/// Extensions by their numbers in spl-token-2022.
const TRANSFER_FEE_CONFIG: u16 = 1;
const TRANSFER_FEE_AMOUNT: u16 = 2;
const DEFAULT_ACCOUNT_STATE: u16 = 6;
const NON_TRANSFERABLE: u16 = 9;
const TRANSFER_HOOK: u16 = 14;
const TRANSFER_HOOK_ACCOUNT: u16 = 15;
const PAUSABLE: u16 = 26;
const PAUSABLE_ACCOUNT: u16 = 27;
const WHOLE: u128 = 10_000;

/// The transfer fee of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferFee {
    pub basis_points: u16,
    pub maximum: u64,
}

impl TransferFee {
    fn fee(&self, amount: u64) -> u64 {
        let raw = (u128::from(amount) * u128::from(self.basis_points)).div_ceil(WHOLE);
        // Basis points are at most 10,000, so the raw fee is at most the amount.
        self.maximum.min(u64::try_from(raw).unwrap_or(u64::MAX))
    }

    /// What arrives when `amount` is sent.
    pub fn after(&self, amount: u64) -> u64 {
        amount.saturating_sub(self.fee(amount))
    }

    /// What must be sent so that `amount` arrives.
    pub fn before(&self, amount: u64) -> Result<u64, QuoteError> {
        const FAILED: QuoteError = quote_error("transfer_fee_calculation_error");
        if amount == 0 || self.basis_points == 0 {
            return Ok(amount);
        }
        let fee = if u128::from(self.basis_points) == WHOLE {
            self.maximum
        } else {
            let raw = (u128::from(amount) * WHOLE).div_ceil(WHOLE - u128::from(self.basis_points));
            let sent = if raw - u128::from(amount) >= u128::from(self.maximum) {
                amount.checked_add(self.maximum).ok_or(FAILED)?
            } else {
                u64::try_from(raw).map_err(|_| FAILED)?
            };
            self.fee(sent)
        };
        let sent = amount.checked_add(fee).ok_or(FAILED)?;
        if self.fee(sent) == fee {
            Ok(sent)
        } else {
            Err(FAILED)
        }
    }
}

/// A token account's balance, checked to be an unfrozen account of `mint` under a token program.
pub fn vault_balance(account: &Account, mint: Pubkey) -> Result<u64, Refused> {
    let (address, data) = (account.address, &account.data);
    let is_2022 = is_token_2022(account)?;
    if data.len() < ACCOUNT_LENGTH || (!is_2022 && data.len() != ACCOUNT_LENGTH) {
        return refuse(
            "short_data",
            format!(
                "vault {address} is not a token account: {} bytes",
                data.len()
            ),
        );
    }
    if key_at(data, 0)? != mint {
        return refuse(
            "foreign_account",
            format!("vault {address} holds another mint than the pool's {mint}"),
        );
    }
    // An account that was never initialized has no mint, so it does not come this far.
    if u8_at(data, STATE)? == FROZEN {
        return refuse("frozen_vault", format!("vault {address} is frozen"));
    }
    u64_at(data, BALANCE)
}

fn is_token_2022(account: &Account) -> Result<bool, Refused> {
    match account.owner.to_string().as_str() {
        TOKEN => Ok(false),
        TOKEN_2022 => Ok(true),
        owner => refuse(
            "wrong_owner",
            format!(
                "{} is owned by {owner}, not by a token program",
                account.address
            ),
        ),
    }
}

/// Check the accounts beside a pool that are its vaults and mints. Others do not matter to a quote and are kept as they are.
pub fn check_companions(
    accounts: &[Account],
    vaults: &[Pubkey; 2],
    mints: &[Pubkey; 2],
) -> Result<(), Refused> {
    for account in accounts {
        if let Some(side) = vaults.iter().position(|vault| *vault == account.address) {
            vault_balance(account, mints[side])?;
        } else if mints.contains(&account.address) {
            mint_transfer_fee(account, 0)?;
        }
    }
    Ok(())
}

/// The fee that a transfer of `mint` costs in this epoch.
///
/// Known from the mint. Without it a vault tells whether the mint must be seen: a Token-2022 account has extensions of
/// its own for mints that charge fees, call a hook or can be paused. Without both the mint is taken to be plain.
pub fn transfer_fee_of(
    accounts: &[Account],
    mint: Pubkey,
    vault: Pubkey,
    epoch: u64,
) -> Result<Option<TransferFee>, Refused> {
    let find = |address| accounts.iter().find(|account| account.address == address);
    if let Some(account) = find(mint) {
        return mint_transfer_fee(account, epoch);
    }
    if let Some(account) = find(vault)
        && is_token_2022(account)?
    {
        let telling = [TRANSFER_FEE_AMOUNT, TRANSFER_HOOK_ACCOUNT, PAUSABLE_ACCOUNT];
        let extensions = extensions(&account.data, 2)?;
        if extensions.iter().any(|(type_, _)| telling.contains(type_)) {
            return refuse(
                "missing_account",
                format!("mint {mint} has a say in transfers and must be given"),
            );
        }
    }
    Ok(None)
}

fn mint_transfer_fee(account: &Account, epoch: u64) -> Result<Option<TransferFee>, Refused> {
    let data = &account.data;
    let is_2022 = is_token_2022(account)?;
    if data.len() < MINT_LENGTH
        || (!is_2022 && data.len() != MINT_LENGTH)
        || u8_at(data, MINT_INITIALIZED)? != 1
    {
        return refuse("bad_mint", format!("{} is not a mint", account.address));
    }
    if !is_2022 {
        return Ok(None);
    }
    let mut config = None;
    for (type_, body) in extensions(data, 1)? {
        match type_ {
            TRANSFER_FEE_CONFIG => config = Some(body),
            _ => check_extension(account.address, type_, body)?,
        }
    }
    let Some(config) = config else {
        return Ok(None);
    };
    // Two schedules stand in the extension: the newer one holds from its epoch on.
    let schedule = if epoch >= u64_at(config, 90)? { 90 } else { 72 };
    let fee = TransferFee {
        maximum: u64_at(config, schedule + 8)?,
        basis_points: u16_at(config, schedule + 16)?,
    };
    if u128::from(fee.basis_points) > WHOLE {
        return refuse(
            "bad_mint",
            format!("{} charges more than all", account.address),
        );
    }
    Ok((fee.basis_points > 0).then_some(fee))
}

/// Refuse mints whose transfers do more than move what they say, or are not possible.
fn check_extension(mint: Pubkey, type_: u16, body: &[u8]) -> Result<(), Refused> {
    match type_ {
        TRANSFER_HOOK if key_at(body, 32)? != Pubkey::default() => refuse(
            "transfer_hook",
            format!("transfers of {mint} call another program"),
        ),
        PAUSABLE if u8_at(body, 32)? != 0 => refuse("paused", format!("{mint} is paused")),
        NON_TRANSFERABLE => refuse("non_transferable", format!("{mint} cannot be transferred")),
        DEFAULT_ACCOUNT_STATE if u8_at(body, 0)? == FROZEN => refuse(
            "frozen_by_default",
            format!("accounts of {mint} begin frozen: its issuer decides who trades"),
        ),
        // Closing, confidential balances, interest and scale of what is shown, delegates, metadata, groups and burning
        // do not change what a transfer moves.
        3 | 4 | 10 | 12 | 16 | 18..=25 | 28 => Ok(()),
        TRANSFER_HOOK | PAUSABLE | DEFAULT_ACCOUNT_STATE => Ok(()),
        _ => refuse(
            "unknown_extension",
            format!("{mint} has extension {type_}, which is not known here"),
        ),
    }
}

/// Token-2022 extensions of an account: entries of (type, length, data) after the account's kind.
fn extensions(data: &[u8], kind: u8) -> Result<Vec<(u16, &[u8])>, Refused> {
    let mut found = Vec::new();
    if data.len() <= ACCOUNT_LENGTH {
        return Ok(found);
    }
    if u8_at(data, ACCOUNT_LENGTH)? != kind {
        return refuse(
            "bad_extension",
            "a Token-2022 account is of another kind than its place wants",
        );
    }
    let mut at = ACCOUNT_LENGTH + 1;
    while at + 4 <= data.len() {
        let (type_, length) = (u16_at(data, at)?, usize::from(u16_at(data, at + 2)?));
        let end = at + 4 + length;
        if type_ == 0 {
            break;
        }
        let Some(body) = data.get(at + 4..end) else {
            return refuse(
                "bad_extension",
                "a Token-2022 extension runs past the end of its account",
            );
        };
        found.push((type_, body));
        at = end;
    }
    Ok(found)
}

/// The tokens of a pool that notes which token program each belongs to: 0 the classic one, 1 Token-2022.
///
/// A mint of the latter must be given. Both mints and vaults are checked where they are given.
pub fn noted_tokens(
    accounts: &[Account],
    mints: [Pubkey; 2],
    vaults: [Pubkey; 2],
    programs: [u8; 2],
    epoch: u64,
) -> Result<[Option<TransferFee>; 2], Refused> {
    check_companions(accounts, &vaults, &mints)?;
    let mut fees = [None, None];
    for side in 0..2 {
        let given = accounts
            .iter()
            .any(|account| account.address == mints[side]);
        match programs[side] {
            0 => {}
            1 if given => {}
            1 => {
                return refuse(
                    "missing_account",
                    format!(
                        "mint {} may charge transfer fees and must be given",
                        mints[side]
                    ),
                );
            }
            other => return refuse("unknown_mode", format!("token program {other} is unknown")),
        }
        fees[side] = transfer_fee_of(accounts, mints[side], vaults[side], epoch)?;
    }
    Ok(fees)
}

/// Refuse a vault that is given and holds less than the pool owes.
pub fn check_held(
    accounts: &[Account],
    vault: Pubkey,
    mint: Pubkey,
    owed: u128,
) -> Result<(), Refused> {
    let Some(account) = accounts.iter().find(|account| account.address == vault) else {
        return Ok(());
    };
    if owed > u128::from(vault_balance(account, mint)?) {
        return refuse(
            "bad_pool",
            format!("vault {vault} holds less than the pool owes"),
        );
    }
    Ok(())
}

/// Move a vault's balance, where the vault is among the accounts.
pub fn move_balance(
    accounts: &mut [Account],
    vault: Pubkey,
    amount: u64,
    incoming: bool,
) -> Result<(), QuoteError> {
    let Some(account) = accounts.iter_mut().find(|account| account.address == vault) else {
        return Ok(());
    };
    let balance = u64_at(&account.data, BALANCE).map_err(|_| quote_error("account_unreadable"))?;
    let moved = if incoming {
        balance.checked_add(amount)
    } else {
        balance.checked_sub(amount)
    }
    .ok_or(quote_error("insufficient_vault"))?;
    let mut data = account.data.to_vec();
    put(&mut data, BALANCE, &moved.to_le_bytes());
    account.data = data.into();
    Ok(())
}

/// True when the account belongs to the classic token program.
pub fn is_classic(account: &Account) -> bool {
    matches!(is_token_2022(account), Ok(false))
}
