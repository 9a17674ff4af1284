from __future__ import annotations

import flatbuffers
import numpy as np

import typing
from typing import cast

uoffset: typing.TypeAlias = flatbuffers.number_types.UOffsetTFlags.py_type

class RefusalReason(object):
  UNKNOWN = cast(int, ...)
  EXPIRED = cast(int, ...)
  PROFIT_TOO_LOW = cast(int, ...)
  CONFIDENCE_TOO_LOW = cast(int, ...)
  QUOTE_TOO_OLD = cast(int, ...)
  AMOUNT_OUT_OF_RANGE = cast(int, ...)
  SLIPPAGE_TOO_HIGH = cast(int, ...)
  POOL_BLACKLISTED = cast(int, ...)
  RISK_TOO_HIGH = cast(int, ...)
  RATE_LIMITED = cast(int, ...)
  EXPOSURE_LIMIT = cast(int, ...)
  NOT_PERMITTED = cast(int, ...)
  QUOTE_MISSING = cast(int, ...)

