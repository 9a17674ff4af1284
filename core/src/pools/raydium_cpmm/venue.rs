//! A CPMM pool as the rest of the crate sees it.

use std::sync::Arc;

use ruint::aliases::U256;

use super::{RaydiumCpmm, pool};
use crate::pools::account::{Account, Pubkey, key_at, put, u64_at};
use crate::pools::error::{QuoteError, Refused, quote_error};
use crate::pools::info::Info;
use crate::pools::snapshot::{Reader, Writer};
use crate::pools::token::{self, TransferFee};
use crate::pools::venue::{Family, Protocol, Venue};
use crate::pools::{Clock, Movement, Order, constant_product};

pub const FAMILY: Family = Family {
    protocol: Protocol::RaydiumCpmm,
    name: "raydium_cpmm",
    parse: |address, accounts, clock| Ok(Arc::new(RaydiumCpmm::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

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

fn read(input: &mut Reader<'_>, mints: [Pubkey; 2]) -> Result<RaydiumCpmm, Refused> {
    let this = RaydiumCpmm {
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

#[cfg(test)]
mod tests {
    use super::super::{
        CONFIG_DISCRIMINATOR, CONFIG_LENGTH, POOL_DISCRIMINATOR, POOL_LENGTH, PROGRAM, config,
    };
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
