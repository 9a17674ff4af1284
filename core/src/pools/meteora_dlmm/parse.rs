//! A pair from its accounts.

use super::MeteoraDlmm;
use super::fee::{Parameters, Volatility};
use super::layout::{self, ARRAY_BINS, Bin, Kind, OWN_BITMAP, PROGRAM, pair};
use crate::pools::Clock;
use crate::pools::account::{self, Account, Pubkey, i32_at, key_at, u8_at, u16_at, u32_at, u64_at};
use crate::pools::error::{Refused, refuse};
use crate::pools::token::{self, TransferFee};

const ENABLED: u8 = 0;
const PERMISSION: u8 = 1;
const CUSTOMIZABLE: u8 = 2;
const NEWEST_TYPE: u8 = 3;
const BY_SLOT: u8 = 0;
const BY_TIME: u8 = 1;
const FUNCTION_OPEN: u8 = 0;
const FUNCTION_MINING: u8 = 1;
const FUNCTION_ORDERS: u8 = 2;

/// What the accounts of the program beside the pair hold.
struct Companions {
    /// Index and bins of every array given.
    arrays: Vec<(i32, Vec<Bin>)>,
    /// What the extension marks; nothing where it is not given.
    extension: Option<Vec<i32>>,
}

impl MeteoraDlmm {
    /// Read a pair from its account, its bin arrays, its bitmap extension, and optionally its vaults and mints.
    ///
    /// A bin array that is marked as holding anything but not given ends what is known in that direction.
    pub fn parse(address: Pubkey, accounts: &[Account], clock: Clock) -> Result<Self, Refused> {
        let program = Pubkey::parse(PROGRAM)?;
        let kind = (layout::PAIR_DISCRIMINATOR, layout::PAIR_LENGTH);
        let account = account::find_kind(accounts, address, program, kind, "DLMM pair")?;
        let data = &account.data;
        check_open(data, clock)?;
        let companions = companions(address, accounts, program)?;
        let active = i32_at(data, pair::ACTIVE)?;
        let (arrays, unknown) = known_arrays(data, active, &companions)?;
        let mut bins: Vec<Bin> = companions
            .arrays
            .into_iter()
            .filter(|(index, _)| arrays.contains(index))
            .flat_map(|(_, bins)| bins)
            .collect();
        bins.sort_unstable_by_key(|bin| bin.id);
        let fee_in_b = match u8_at(data, pair::COLLECT_FEE_MODE)? {
            0 => false,
            1 => true,
            mode => {
                return refuse(
                    "unknown_mode",
                    format!("fee collection mode {mode} is unknown"),
                );
            }
        };
        let orders = fills_orders(data, &bins)?;
        let this = Self {
            mints: [key_at(data, pair::MINTS[0])?, key_at(data, pair::MINTS[1])?],
            bin_step: u16_at(data, pair::BIN_STEP)?,
            fees: Parameters {
                base_factor: u16_at(data, pair::BASE_FACTOR)?,
                base_fee_power: u8_at(data, pair::BASE_FEE_POWER)?,
                filter_period: u16_at(data, pair::FILTER_PERIOD)?,
                decay_period: u16_at(data, pair::DECAY_PERIOD)?,
                reduction_factor: u16_at(data, pair::REDUCTION_FACTOR)?,
                variable_fee_control: u32_at(data, pair::VARIABLE_FEE_CONTROL)?,
                max_accumulator: u32_at(data, pair::MAX_ACCUMULATOR)?,
                protocol_share: u16_at(data, pair::PROTOCOL_SHARE)?,
            },
            volatility: Volatility {
                accumulator: u32_at(data, pair::ACCUMULATOR)?,
                reference: u32_at(data, pair::VOLATILITY_REFERENCE)?,
                index_reference: i32_at(data, pair::INDEX_REFERENCE)?,
                updated: u64_at(data, pair::UPDATED)? as i64,
            },
            active,
            fee_in_b,
            orders,
            arrays: arrays.into(),
            unknown,
            transfer_fees: tokens(data, accounts, &bins, orders, clock)?,
            bins: bins.into(),
        };
        this.check()?;
        Ok(this)
    }
}

/// Refuse a pair that nobody can swap with now.
fn check_open(data: &[u8], clock: Clock) -> Result<(), Refused> {
    if u8_at(data, pair::STATUS)? != ENABLED {
        return refuse("swap_disabled", "the pair is disabled");
    }
    let kind = u8_at(data, pair::TYPE)?;
    if kind > NEWEST_TYPE {
        return refuse("unknown_mode", format!("pair type {kind} is unknown"));
    }
    let now = match u8_at(data, pair::ACTIVATION_TYPE)? {
        BY_SLOT => clock.slot,
        BY_TIME => u64::try_from(clock.unix_time).unwrap_or(0),
        mode => return refuse("unknown_mode", format!("activation type {mode} is unknown")),
    };
    let opens = u64_at(data, pair::ACTIVATION_POINT)?;
    if matches!(kind, PERMISSION | CUSTOMIZABLE) && now < opens {
        return refuse("not_open", format!("the pair opens at {opens}"));
    }
    Ok(())
}

fn companions(
    address: Pubkey,
    accounts: &[Account],
    program: Pubkey,
) -> Result<Companions, Refused> {
    let mut found = Companions {
        arrays: Vec::new(),
        extension: None,
    };
    let foreign = |what: &str, account: &Account, owner: Pubkey| {
        refuse(
            "foreign_account",
            format!("{what} {} belongs to pair {owner}", account.address),
        )
    };
    for account in accounts
        .iter()
        .filter(|account| account.owner == program && account.address != address)
    {
        match layout::kind_of(&account.data) {
            Kind::Array => {
                let (index, owner) = layout::array_header(&account.data)?;
                if owner != address {
                    return foreign("bin array", account, owner);
                }
                if found.arrays.iter().any(|(other, _)| *other == index) {
                    return refuse(
                        "duplicate_account",
                        format!("two bin arrays have the index {index}"),
                    );
                }
                found
                    .arrays
                    .push((index, layout::read_bins(&account.data, index)?));
            }
            Kind::Extension => {
                let (owner, marks) = layout::extension_marks(&account.data)?;
                if owner != address {
                    return foreign("bitmap extension", account, owner);
                }
                if found.extension.replace(marks).is_some() {
                    return refuse("duplicate_account", "two bitmap extensions are given");
                }
            }
            Kind::Other => {}
        }
    }
    Ok(found)
}

/// Marked arrays that are given, outwards from the active bin to the first that is not, and whether more may follow.
fn known_arrays(
    data: &[u8],
    active: i32,
    companions: &Companions,
) -> Result<(Vec<i32>, [bool; 2]), Refused> {
    let here = active.div_euclid(ARRAY_BINS);
    let mut marked = layout::own_marks(data)?;
    match &companions.extension {
        Some(more) => marked.extend(more),
        None if !(-OWN_BITMAP..OWN_BITMAP).contains(&here) => {
            return refuse(
                "missing_account",
                "the active bin lies beyond the pair's own bitmap: its extension must be given",
            );
        }
        None => {}
    }
    marked.sort_unstable();
    let given = |index: &&i32| companions.arrays.iter().any(|(other, _)| other == *index);
    if marked.binary_search(&here).is_ok() && !given(&&here) {
        return refuse(
            "missing_account",
            format!("the active bin's array {here} is not among the accounts"),
        );
    }
    let split = marked.partition_point(|index| *index < here);
    let (below, above) = marked.split_at(split);
    let known_below = below.iter().rev().take_while(given).count();
    let known_above = above.iter().take_while(given).count();
    // Without the extension nobody knows what it would mark.
    let blind = companions.extension.is_none();
    let unknown = [
        blind || known_below < below.len(),
        blind || known_above < above.len(),
    ];
    Ok((
        marked[split - known_below..split + known_above].to_vec(),
        unknown,
    ))
}

/// Whether swaps fill limit orders.
///
/// Pairs with rewards have none. A pair whose function was never determined may have them while it has no rewards;
/// where the sources disagree, or the fields may still hold what older versions kept there, nothing may stand there.
fn fills_orders(data: &[u8], bins: &[Bin]) -> Result<bool, Refused> {
    let rewards = pair::REWARD_MINTS.iter().try_fold(false, |any, at| {
        Ok::<_, Refused>(any || key_at(data, *at)? != Pubkey::default())
    })?;
    let function = u8_at(data, pair::FUNCTION)?;
    let (fills, clear) = match function {
        FUNCTION_MINING => return Ok(false),
        FUNCTION_ORDERS => (true, true),
        FUNCTION_OPEN => (!rewards, !rewards),
        _ => {
            return refuse(
                "unknown_mode",
                format!("pair function {function} is unknown"),
            );
        }
    };
    let clear = clear && u8_at(data, pair::VERSION)? > 0;
    let any = bins.iter().any(|bin| bin.open > 0 || bin.processed > 0);
    if any && !clear {
        return refuse(
            "unclear_orders",
            "bins show limit orders that the pair may not have",
        );
    }
    Ok(fills)
}

/// Check vaults and mints where they are given; the fees of token transfers.
fn tokens(
    data: &[u8],
    accounts: &[Account],
    bins: &[Bin],
    orders: bool,
    clock: Clock,
) -> Result<[Option<TransferFee>; 2], Refused> {
    let keys = |at: [usize; 2]| Ok([key_at(data, at[0])?, key_at(data, at[1])?]);
    let (mints, vaults) = (keys(pair::MINTS)?, keys(pair::VAULTS)?);
    let programs = [
        u8_at(data, pair::TOKEN_PROGRAMS[0])?,
        u8_at(data, pair::TOKEN_PROGRAMS[1])?,
    ];
    let fees = token::noted_tokens(accounts, mints, vaults, programs, clock.epoch())?;
    for side in 0..2 {
        // A swap takes token a when it gives b.
        let offered = bins.iter().map(|bin| {
            let layers = bin.layers(side == 1, orders);
            layers.into_iter().map(u128::from).sum::<u128>()
        });
        let owed = offered.sum::<u128>() + u128::from(u64_at(data, pair::PROTOCOL_FEES[side])?);
        token::check_held(accounts, vaults[side], mints[side], owed)?;
    }
    Ok(fees)
}
