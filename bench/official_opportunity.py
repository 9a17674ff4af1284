"""An Opportunity through the official FlatBuffers runtime, written as its tutorial does: the codec's baseline."""

from __future__ import annotations

from typing import Any

import flatbuffers

from generated import Leg as LegTable
from generated import Opportunity as Table
from pipeline.messages import Leg, Opportunity


def _leg(builder: Any, leg: Leg) -> int:
    pool = builder.CreateString(leg.pool)
    token_in = builder.CreateString(leg.token_in)
    token_out = builder.CreateString(leg.token_out)
    LegTable.Start(builder)
    LegTable.AddPool(builder, pool)
    LegTable.AddProtocol(builder, leg.protocol)
    LegTable.AddTokenIn(builder, token_in)
    LegTable.AddTokenOut(builder, token_out)
    LegTable.AddAmountIn(builder, leg.amount_in)
    LegTable.AddAmountOut(builder, leg.amount_out)
    LegTable.AddMinAmountOut(builder, leg.min_amount_out)
    LegTable.AddSlot(builder, leg.slot)
    LegTable.AddQuotedNs(builder, leg.quoted_ns)
    LegTable.AddPriceImpactBps(builder, leg.price_impact_bps)
    return int(LegTable.End(builder))


def encode(message: Opportunity) -> bytes:
    """Return the message as a FlatBuffer."""
    builder = flatbuffers.Builder(1024)
    legs = [_leg(builder, leg) for leg in message.legs]
    Table.StartLegsVector(builder, len(legs))
    for leg in reversed(legs):
        builder.PrependUOffsetTRelative(leg)
    vector = builder.EndVector()
    id_ = builder.CreateString(message.id)
    correlation_id = builder.CreateString(message.correlation_id)
    causation_id = builder.CreateString(message.causation_id)
    producer = builder.CreateString(message.producer)
    token = builder.CreateString(message.token)
    Table.Start(builder)
    Table.AddId(builder, id_)
    Table.AddCorrelationId(builder, correlation_id)
    Table.AddCausationId(builder, causation_id)
    Table.AddCreatedNs(builder, message.created_ns)
    Table.AddProducer(builder, producer)
    Table.AddToken(builder, token)
    Table.AddAmountIn(builder, message.amount_in)
    Table.AddAmountOut(builder, message.amount_out)
    Table.AddGrossProfit(builder, message.gross_profit)
    Table.AddBaseFee(builder, message.base_fee)
    Table.AddPriorityFee(builder, message.priority_fee)
    Table.AddTip(builder, message.tip)
    Table.AddCost(builder, message.cost)
    Table.AddNetProfit(builder, message.net_profit)
    Table.AddProfitBps(builder, message.profit_bps)
    Table.AddConfidence(builder, message.confidence)
    Table.AddSlot(builder, message.slot)
    Table.AddFoundNs(builder, message.found_ns)
    Table.AddExpiresNs(builder, message.expires_ns)
    Table.AddLegs(builder, vector)
    Table.AddBand(builder, message.band)
    Table.AddAgeFactor(builder, message.age_factor)
    Table.AddHopsFactor(builder, message.hops_factor)
    Table.AddOracleFactor(builder, message.oracle_factor)
    Table.AddProviderFactor(builder, message.provider_factor)
    Table.AddSlippageFactor(builder, message.slippage_factor)
    builder.Finish(Table.End(builder), file_identifier=b"OPPO")
    return bytes(builder.Output())


def read(data: bytes) -> tuple[Any, ...]:
    """Return every field of a FlatBuffer, in the order of the schema. Nothing is verified: the runtime can not."""
    found = Table.Opportunity.GetRootAs(data)
    legs = []
    for index in range(found.LegsLength()):
        leg = found.Legs(index)
        legs.append(
            (
                leg.Pool(),
                leg.Protocol(),
                leg.TokenIn(),
                leg.TokenOut(),
                leg.AmountIn(),
                leg.AmountOut(),
                leg.MinAmountOut(),
                leg.Slot(),
                leg.QuotedNs(),
                leg.PriceImpactBps(),
            )
        )
    return (
        found.Id(),
        found.CorrelationId(),
        found.CausationId(),
        found.CreatedNs(),
        found.Producer(),
        found.Token(),
        found.AmountIn(),
        found.AmountOut(),
        found.GrossProfit(),
        found.BaseFee(),
        found.PriorityFee(),
        found.Tip(),
        found.Cost(),
        found.NetProfit(),
        found.ProfitBps(),
        found.Confidence(),
        found.Slot(),
        found.FoundNs(),
        found.ExpiresNs(),
        tuple(legs),
        found.Band(),
        found.AgeFactor(),
        found.HopsFactor(),
        found.OracleFactor(),
        found.ProviderFactor(),
        found.SlippageFactor(),
    )
