"""The permit word in shared memory, as the gate and the halting side use it.

The word is one small file beside the quote tables. The system manager renews it; any process of the host may halt by
it, with no server and no manager needed. It is read in well under a microsecond, so it is what stops a busy worker
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.permit.state import WordReading
from pipeline.shm import PERMIT, PermitWord, SharedMemoryError

__all__ = ["Word", "WordError", "WordHalt", "halt_word", "word_epoch", "word_path"]


class WordError(Exception):
    """The word is missing, or cannot be read as one."""


def word_path(directory: Path) -> Path:
    """Return the path of the permit word in the directory of the shared-memory files."""
    return directory / PERMIT


class Word:
    """An existing permit word: read it, or halt by it."""

    def __init__(self, path: Path) -> None:
        """Map the word; raise WordError where there is none, or one of another layout."""
        try:
            self._word = PermitWord(str(path))
        except SharedMemoryError as error:
            raise WordError(str(error) or type(error).__name__) from error

    def read(self) -> WordReading:
        """Read the word whole; raise WordError where that is not possible."""
        try:
            found = self._word.read()
        except SharedMemoryError as error:
            raise WordError(str(error) or type(error).__name__) from error
        if found is None:
            raise WordError("it was being written at every attempt: its writer died, or is stopped, in the middle")
        return WordReading(*found)

    @property
    def replaced(self) -> bool:
        """Tell whether the file at the word's path is another one by now, or gone."""
        return self._word.replaced

    def halt(self) -> int:
        """Halt every gate that reads this word, at once; return the count of halts. Only a resume lifts it."""
        try:
            return self._word.halt()
        except SharedMemoryError as error:
            raise WordError(str(error) or type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class WordHalt:
    """What halting by the word in shared memory came to; `trouble` is empty where it worked."""

    trouble: str
    epoch: int = 0

    @property
    def done(self) -> bool:
        """Tell whether every gate of this host that reads the word is closed."""
        return not self.trouble


def halt_word(path: Path) -> WordHalt:
    """Halt every gate of this host at once, by the word in shared memory. Needs neither server nor manager."""
    try:
        word = Word(path)
        word.halt()
    except WordError as error:
        return WordHalt(str(error) if path.exists() else f"there is none at {path}")
    try:
        return WordHalt("", word.read().epoch)
    except WordError:  # its writer died in the middle: halted all the same
        return WordHalt("")


def word_epoch(path: Path) -> int:
    """Return the epoch of the word in shared memory, 0 where there is none."""
    try:
        return Word(path).read().epoch
    except WordError:
        return 0
