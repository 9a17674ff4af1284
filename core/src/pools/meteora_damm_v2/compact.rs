//! A pool in few bytes.

use super::MeteoraDammV2;
use super::curve::Curve;
use super::fee::{Base, BaseFee, Decay, Dynamic};
use crate::pools::account::Pubkey;
use crate::pools::error::{Refused, refuse};
use crate::pools::snapshot::{Reader, Writer};

impl MeteoraDammV2 {
    /// Write all but the mints.
    pub fn put(&self, out: &mut Writer) {
        match self.curve {
            Curve::Range {
                liquidity,
                lowest,
                highest,
            } => out.u8(0).u128(liquidity).u128(lowest).u128(highest),
            Curve::Product { reserves } => out.u8(1).u64s(&reserves),
        };
        out.u128(self.price);
        put_base_fee(out, &self.base_fee);
        out.u8(u8::from(self.dynamic.is_some()));
        if let Some(dynamic) = &self.dynamic {
            out.u32(dynamic.max_accumulator)
                .u32(dynamic.variable_fee_control)
                .u16(dynamic.bin_step)
                .u16(dynamic.filter_period)
                .u16(dynamic.decay_period)
                .u16(dynamic.reduction_factor)
                .u64(dynamic.updated)
                .u128(dynamic.bin_step_x64)
                .u128(dynamic.price_reference)
                .u128(dynamic.accumulator)
                .u128(dynamic.reference);
        }
        out.u64(self.highest_rate)
            .u8(u8::from(self.fee_in_b))
            .u8(self.protocol_percent)
            .u16(self.compounding_bps)
            .u64(self.opened)
            .u8(u8::from(self.opens_by_time))
            .transfer_fee(self.transfer_fees[0])
            .transfer_fee(self.transfer_fees[1]);
    }

    /// Read back what [`MeteoraDammV2::put`] wrote.
    pub fn read(input: &mut Reader<'_>, mints: [Pubkey; 2]) -> Result<Self, Refused> {
        let curve = if input.flag()? {
            Curve::Product {
                reserves: input.u64s()?,
            }
        } else {
            Curve::Range {
                liquidity: input.u128()?,
                lowest: input.u128()?,
                highest: input.u128()?,
            }
        };
        let this = Self {
            mints,
            curve,
            price: input.u128()?,
            base_fee: read_base_fee(input)?,
            dynamic: if input.flag()? {
                Some(read_dynamic(input)?)
            } else {
                None
            },
            highest_rate: input.u64()?,
            fee_in_b: input.flag()?,
            protocol_percent: input.u8()?,
            compounding_bps: input.u16()?,
            opened: input.u64()?,
            opens_by_time: input.flag()?,
            transfer_fees: [input.transfer_fee()?, input.transfer_fee()?],
        };
        this.check()?;
        Ok(this)
    }
}

/// The program's number of what a base fee follows.
pub fn mode_of(fee: &BaseFee) -> u8 {
    match fee.kind {
        Base::Time { decay, .. } => u8::from(decay == Decay::Exponential),
        Base::Limiter { .. } => 2,
        Base::Price { decay, .. } => 3 + u8::from(decay == Decay::Exponential),
    }
}

fn put_base_fee(out: &mut Writer, fee: &BaseFee) {
    out.u64(fee.cliff).u8(mode_of(fee));
    match fee.kind {
        Base::Time { period, .. } => out.u64(period),
        Base::Limiter { duration, idle } => out.u32(duration).u32(u32::from(idle)),
        Base::Price {
            step_bps, duration, ..
        } => out.u32(step_bps).u32(duration),
    };
    out.u16(fee.periods)
        .u64(fee.reduction)
        .u128(fee.initial_price);
}

fn read_base_fee(input: &mut Reader<'_>) -> Result<BaseFee, Refused> {
    let (cliff, mode) = (input.u64()?, input.u8()?);
    let decay = if matches!(mode, 0 | 3) {
        Decay::Linear
    } else {
        Decay::Exponential
    };
    let kind = match mode {
        0 | 1 => Base::Time {
            decay,
            period: input.u64()?,
        },
        2 => Base::Limiter {
            duration: input.u32()?,
            idle: input.u32()? != 0,
        },
        3 | 4 => Base::Price {
            decay,
            step_bps: input.u32()?,
            duration: input.u32()?,
        },
        _ => return refuse("bad_snapshot", "a base fee follows what is not known"),
    };
    Ok(BaseFee {
        cliff,
        kind,
        periods: input.u16()?,
        reduction: input.u64()?,
        initial_price: input.u128()?,
    })
}

fn read_dynamic(input: &mut Reader<'_>) -> Result<Dynamic, Refused> {
    Ok(Dynamic {
        max_accumulator: input.u32()?,
        variable_fee_control: input.u32()?,
        bin_step: input.u16()?,
        filter_period: input.u16()?,
        decay_period: input.u16()?,
        reduction_factor: input.u16()?,
        updated: input.u64()?,
        bin_step_x64: input.u128()?,
        price_reference: input.u128()?,
        accumulator: input.u128()?,
        reference: input.u128()?,
    })
}
