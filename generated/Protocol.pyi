from __future__ import annotations

import flatbuffers
import numpy as np

import typing
from typing import cast

uoffset: typing.TypeAlias = flatbuffers.number_types.UOffsetTFlags.py_type

class Protocol(object):
  UNKNOWN = cast(int, ...)
  WHIRLPOOL = cast(int, ...)
  RAYDIUM_AMM_V4 = cast(int, ...)
  RAYDIUM_CPMM = cast(int, ...)

