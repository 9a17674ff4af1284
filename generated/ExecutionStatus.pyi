from __future__ import annotations

import flatbuffers
import numpy as np

import typing
from typing import cast

uoffset: typing.TypeAlias = flatbuffers.number_types.UOffsetTFlags.py_type

class ExecutionStatus(object):
  UNKNOWN = cast(int, ...)
  FILLED = cast(int, ...)
  REVERTED = cast(int, ...)
  EXPIRED = cast(int, ...)
  REFUSED_BY_GATE = cast(int, ...)
  DROPPED = cast(int, ...)
  ABANDONED = cast(int, ...)

