from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Band(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAND_SKIP: _ClassVar[Band]
    BAND_CAUTIOUS: _ClassVar[Band]
    BAND_VERIFY: _ClassVar[Band]
    BAND_EXECUTE: _ClassVar[Band]

class Staleness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STALENESS_FRESH: _ClassVar[Staleness]
    STALENESS_STALE: _ClassVar[Staleness]
    STALENESS_VERY_STALE: _ClassVar[Staleness]
BAND_SKIP: Band
BAND_CAUTIOUS: Band
BAND_VERIFY: Band
BAND_EXECUTE: Band
STALENESS_FRESH: Staleness
STALENESS_STALE: Staleness
STALENESS_VERY_STALE: Staleness

class AskedPair(_message.Message):
    __slots__ = ("pair", "token_in", "token_out", "amount", "reverse_amount")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OUT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REVERSE_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    pair: str
    token_in: str
    token_out: str
    amount: int
    reverse_amount: int
    def __init__(self, pair: _Optional[str] = ..., token_in: _Optional[str] = ..., token_out: _Optional[str] = ..., amount: _Optional[int] = ..., reverse_amount: _Optional[int] = ...) -> None: ...

class GetQuoteRequest(_message.Message):
    __slots__ = ("pair", "paired", "fresh_external")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    PAIRED_FIELD_NUMBER: _ClassVar[int]
    FRESH_EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    pair: AskedPair
    paired: bool
    fresh_external: bool
    def __init__(self, pair: _Optional[_Union[AskedPair, _Mapping]] = ..., paired: _Optional[bool] = ..., fresh_external: _Optional[bool] = ...) -> None: ...

class Quote(_message.Message):
    __slots__ = ("provider", "pool", "protocol", "token_in", "token_out", "amount_in", "amount_out", "price_impact_bps", "slot", "quoted_ns", "hops", "route", "oracle_amount_out", "confidence", "age_factor", "hops_factor", "oracle_factor", "provider_factor", "slippage_factor", "band", "staleness")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OUT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_IN_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_OUT_FIELD_NUMBER: _ClassVar[int]
    PRICE_IMPACT_BPS_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    QUOTED_NS_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    ORACLE_AMOUNT_OUT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    AGE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    HOPS_FACTOR_FIELD_NUMBER: _ClassVar[int]
    ORACLE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FACTOR_FIELD_NUMBER: _ClassVar[int]
    SLIPPAGE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    pool: str
    protocol: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    price_impact_bps: float
    slot: int
    quoted_ns: int
    hops: int
    route: int
    oracle_amount_out: int
    confidence: float
    age_factor: float
    hops_factor: float
    oracle_factor: float
    provider_factor: float
    slippage_factor: float
    band: Band
    staleness: Staleness
    def __init__(self, provider: _Optional[str] = ..., pool: _Optional[str] = ..., protocol: _Optional[str] = ..., token_in: _Optional[str] = ..., token_out: _Optional[str] = ..., amount_in: _Optional[int] = ..., amount_out: _Optional[int] = ..., price_impact_bps: _Optional[float] = ..., slot: _Optional[int] = ..., quoted_ns: _Optional[int] = ..., hops: _Optional[int] = ..., route: _Optional[int] = ..., oracle_amount_out: _Optional[int] = ..., confidence: _Optional[float] = ..., age_factor: _Optional[float] = ..., hops_factor: _Optional[float] = ..., oracle_factor: _Optional[float] = ..., provider_factor: _Optional[float] = ..., slippage_factor: _Optional[float] = ..., band: _Optional[_Union[Band, str]] = ..., staleness: _Optional[_Union[Staleness, str]] = ...) -> None: ...

class PairQuotes(_message.Message):
    __slots__ = ("token_in", "token_out", "amount_in", "forward", "reverse", "problem", "local_left_out", "external_follows")
    TOKEN_IN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OUT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_IN_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    LOCAL_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    token_in: str
    token_out: str
    amount_in: int
    forward: _containers.RepeatedCompositeFieldContainer[Quote]
    reverse: _containers.RepeatedCompositeFieldContainer[Quote]
    problem: str
    local_left_out: bool
    external_follows: bool
    def __init__(self, token_in: _Optional[str] = ..., token_out: _Optional[str] = ..., amount_in: _Optional[int] = ..., forward: _Optional[_Iterable[_Union[Quote, _Mapping]]] = ..., reverse: _Optional[_Iterable[_Union[Quote, _Mapping]]] = ..., problem: _Optional[str] = ..., local_left_out: _Optional[bool] = ..., external_follows: _Optional[bool] = ...) -> None: ...

class GetQuoteReply(_message.Message):
    __slots__ = ("slot", "market_ns", "created_ns", "quotes")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MARKET_NS_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    slot: int
    market_ns: int
    created_ns: int
    quotes: PairQuotes
    def __init__(self, slot: _Optional[int] = ..., market_ns: _Optional[int] = ..., created_ns: _Optional[int] = ..., quotes: _Optional[_Union[PairQuotes, _Mapping]] = ...) -> None: ...

class GetPoolStateRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class QuotedAmount(_message.Message):
    __slots__ = ("a_to_b", "amount_index", "amount_in", "amount_out", "fee_amount", "price_impact_bps")
    A_TO_B_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_INDEX_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_IN_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_OUT_FIELD_NUMBER: _ClassVar[int]
    FEE_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PRICE_IMPACT_BPS_FIELD_NUMBER: _ClassVar[int]
    a_to_b: bool
    amount_index: int
    amount_in: int
    amount_out: int
    fee_amount: int
    price_impact_bps: float
    def __init__(self, a_to_b: _Optional[bool] = ..., amount_index: _Optional[int] = ..., amount_in: _Optional[int] = ..., amount_out: _Optional[int] = ..., fee_amount: _Optional[int] = ..., price_impact_bps: _Optional[float] = ...) -> None: ...

class PoolState(_message.Message):
    __slots__ = ("pool", "protocol", "token_a", "token_b", "slot", "write_version", "observed_ns", "confirmed_ns", "quotes")
    POOL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_A_FIELD_NUMBER: _ClassVar[int]
    TOKEN_B_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    WRITE_VERSION_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_NS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_NS_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    protocol: str
    token_a: str
    token_b: str
    slot: int
    write_version: int
    observed_ns: int
    confirmed_ns: int
    quotes: _containers.RepeatedCompositeFieldContainer[QuotedAmount]
    def __init__(self, pool: _Optional[str] = ..., protocol: _Optional[str] = ..., token_a: _Optional[str] = ..., token_b: _Optional[str] = ..., slot: _Optional[int] = ..., write_version: _Optional[int] = ..., observed_ns: _Optional[int] = ..., confirmed_ns: _Optional[int] = ..., quotes: _Optional[_Iterable[_Union[QuotedAmount, _Mapping]]] = ...) -> None: ...

class StreamBatchQuotesRequest(_message.Message):
    __slots__ = ("pairs", "paired")
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    PAIRED_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[AskedPair]
    paired: bool
    def __init__(self, pairs: _Optional[_Iterable[_Union[AskedPair, _Mapping]]] = ..., paired: _Optional[bool] = ...) -> None: ...

class QuoteChanges(_message.Message):
    __slots__ = ("sequence", "snapshot", "slot", "market_ns", "pairs")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MARKET_NS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    snapshot: bool
    slot: int
    market_ns: int
    pairs: _containers.RepeatedCompositeFieldContainer[PairQuotes]
    def __init__(self, sequence: _Optional[int] = ..., snapshot: _Optional[bool] = ..., slot: _Optional[int] = ..., market_ns: _Optional[int] = ..., pairs: _Optional[_Iterable[_Union[PairQuotes, _Mapping]]] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthReply(_message.Message):
    __slots__ = ("serving", "slot", "market_ns", "pools", "subscriptions")
    SERVING_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MARKET_NS_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    serving: bool
    slot: int
    market_ns: int
    pools: int
    subscriptions: int
    def __init__(self, serving: _Optional[bool] = ..., slot: _Optional[int] = ..., market_ns: _Optional[int] = ..., pools: _Optional[int] = ..., subscriptions: _Optional[int] = ...) -> None: ...
