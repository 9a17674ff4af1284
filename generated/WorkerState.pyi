from __future__ import annotations

import flatbuffers
import numpy as np

import typing
from typing import cast

uoffset: typing.TypeAlias = flatbuffers.number_types.UOffsetTFlags.py_type

class WorkerState(object):
  STARTING = cast(int, ...)
  CONNECTING = cast(int, ...)
  READY = cast(int, ...)
  DRAINING = cast(int, ...)
  STOPPED = cast(int, ...)
  DEGRADED = cast(int, ...)

