//! A pair in few bytes.

use super::MeteoraDlmm;
use super::fee::{Parameters, Volatility};
use super::layout::Bin;
use super::price;
use crate::pools::account::Pubkey;
use crate::pools::error::{Refused, refuse};
use crate::pools::snapshot::{Reader, Writer};

impl MeteoraDlmm {
    /// Read back what [`MeteoraDlmm::put`] wrote.
    pub fn read(input: &mut Reader<'_>, mints: [Pubkey; 2]) -> Result<Self, Refused> {
        let bin_step = input.u16()?;
        let fees = Parameters {
            base_factor: input.u16()?,
            base_fee_power: input.u8()?,
            filter_period: input.u16()?,
            decay_period: input.u16()?,
            reduction_factor: input.u16()?,
            variable_fee_control: input.u32()?,
            max_accumulator: input.u32()?,
            protocol_share: input.u16()?,
        };
        let volatility = Volatility {
            accumulator: input.u32()?,
            reference: input.u32()?,
            index_reference: input.i32()?,
            updated: input.i64()?,
        };
        let active = input.i32()?;
        let (fee_in_b, orders) = (input.flag()?, input.flag()?);
        let unknown = [input.flag()?, input.flag()?];
        let transfer_fees = [input.transfer_fee()?, input.transfer_fee()?];
        let arrays = (0..input.u16()?)
            .map(|_| input.i32())
            .collect::<Result<Vec<_>, _>>()?;
        let mut bins = Vec::new();
        for _ in 0..input.u16()? {
            bins.push(read_bin(input, bin_step)?);
        }
        let this = Self {
            mints,
            bin_step,
            fees,
            volatility,
            active,
            fee_in_b,
            orders,
            arrays: arrays.into(),
            unknown,
            bins: bins.into(),
            transfer_fees,
        };
        this.check()?;
        Ok(this)
    }

    /// Write all but the mints.
    pub fn put(&self, out: &mut Writer) {
        let (fees, volatility) = (&self.fees, &self.volatility);
        out.u16(self.bin_step)
            .u16(fees.base_factor)
            .u8(fees.base_fee_power)
            .u16(fees.filter_period)
            .u16(fees.decay_period)
            .u16(fees.reduction_factor)
            .u32(fees.variable_fee_control)
            .u32(fees.max_accumulator)
            .u16(fees.protocol_share)
            .u32(volatility.accumulator)
            .u32(volatility.reference)
            .i32(volatility.index_reference)
            .i64(volatility.updated)
            .i32(self.active)
            .u8(u8::from(self.fee_in_b))
            .u8(u8::from(self.orders))
            .u8(u8::from(self.unknown[0]))
            .u8(u8::from(self.unknown[1]))
            .transfer_fee(self.transfer_fees[0])
            .transfer_fee(self.transfer_fees[1])
            // There are fewer than 2^14 arrays in all. More bins than fit make the snapshot too large anyway.
            .u16(self.arrays.len() as u16);
        for array in self.arrays.iter() {
            out.i32(*array);
        }
        out.u16(u16::try_from(self.bins.len()).unwrap_or(u16::MAX));
        for bin in self.bins.iter() {
            write_bin(out, bin, self.bin_step);
        }
    }
}

/// The price of a bin is nearly always the one that follows from its id, and is written only where it is not.
const OWN_PRICE: u8 = 1;
const HAS_ORDERS: u8 = 2;
const ASKS: u8 = 4;

fn write_bin(out: &mut Writer, bin: &Bin, bin_step: u16) {
    let own_price = price::of_bin(bin.id, bin_step) != Some(bin.price);
    let has_orders = bin.processed > 0 || bin.open > 0;
    let mut flags = if own_price { OWN_PRICE } else { 0 };
    flags |= if has_orders { HAS_ORDERS } else { 0 };
    flags |= if bin.asks { ASKS } else { 0 };
    out.i32(bin.id).u8(flags).u64s(&bin.amounts);
    if own_price {
        out.u128(bin.price);
    }
    if has_orders {
        out.u64s(&[bin.processed, bin.open]);
    }
}

fn read_bin(input: &mut Reader<'_>, bin_step: u16) -> Result<Bin, Refused> {
    let (id, flags) = (input.i32()?, input.u8()?);
    if flags > OWN_PRICE | HAS_ORDERS | ASKS {
        return refuse("bad_snapshot", "a bin has unknown flags");
    }
    let amounts = input.u64s()?;
    let price = if flags & OWN_PRICE != 0 {
        input.u128()?
    } else {
        price::of_bin(id, bin_step).unwrap_or(0)
    };
    let [processed, open] = if flags & HAS_ORDERS != 0 {
        input.u64s()?
    } else {
        [0, 0]
    };
    let asks = flags & ASKS != 0;
    Ok(Bin {
        id,
        price,
        amounts,
        processed,
        open,
        asks,
    })
}
