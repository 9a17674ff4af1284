"""The making of one block: what may land, in which slot, and bundles all or none."""

from __future__ import annotations

from collections.abc import Sequence

from localnet.chain.blockhashes import Blockhashes
from localnet.chain.bundles import Bundle
from localnet.chain.errors import in_words
from localnet.chain.execution import Execution, Outcome
from localnet.chain.history import History, Kept
from localnet.chain.prepared import Prepared
from localnet.chain.records import ChainRefusal, ErrorForm, Record
from localnet.chain_view import ChainAccount


def stale(
    prepared: Prepared, height: int, blockhashes: Blockhashes, *processed: History | Sequence[bytes]
) -> ErrorForm | None:
    """Tell why a transaction cannot stand on a block of a height, as far as its blockhash and its past go.

    As agave has it (`is_hash_index_valid` in blockhash_queue.rs), a hash is held against the newest block, not the one
    that is being made: a transaction lands up to one block later than `last_valid_block_height` tells.
    """
    last = blockhashes.last_valid(prepared.blockhash)
    if last is None or height > last:
        return "BlockhashNotFound"
    return "AlreadyProcessed" if any(prepared.message_hash in one for one in processed) else None


class Building:
    """A block that is being made on top of the newest one."""

    def __init__(self, kept: Kept, unix_time: int, vm: Execution, blockhashes: Blockhashes, history: History) -> None:
        """Begin with nothing in it; `kept` takes what lands."""
        self.kept = kept
        self.unix_time = unix_time
        self._vm, self._blockhashes, self._history = vm, blockhashes, history

    def land(self, prepared: Prepared) -> Record:
        """Execute a transaction; one that fails while it runs is in the block and costs its fee.

        Raises:
            ChainRefusal: if it cannot be in this block; nothing has changed then.
        """
        self._check(prepared, ())
        return self._keep(prepared, self._vm.run(prepared.transaction), "")

    def land_bundle(self, bundle: Bundle) -> None:
        """Execute a bundle.

        Raises:
            ChainRefusal: if one of its transactions fails or cannot land; every account is then as it was before.
        """
        saved: dict[str, ChainAccount | None] = {}
        outcomes: list[Outcome] = []
        try:
            for prepared in bundle.transactions:
                self._check(prepared, [one.message_hash for one in bundle.transactions[: len(outcomes)]])
                loaded = self._vm.load(prepared.transaction)
                # What an earlier one wrote was saved then, before it was written.
                saved = self._vm.save(loaded.writable) | saved
                outcome = self._vm.run(prepared.transaction)
                if outcome.error is not None:
                    raise ChainRefusal(outcome.error, in_words(outcome.error), logs=outcome.logs, units=outcome.units)
                outcomes.append(outcome)
        except ChainRefusal:
            self._vm.restore(saved)
            raise
        for prepared, outcome in zip(bundle.transactions, outcomes, strict=True):
            self._keep(prepared, outcome, bundle.id)
        self.kept.tips.append(bundle.tip)

    def _check(self, prepared: Prepared, beside: Sequence[bytes]) -> None:
        kept = self.kept
        error = stale(prepared, kept.block_height - 1, self._blockhashes, self._history, kept.hashes, beside)
        if error is not None:
            raise ChainRefusal(error, in_words(error))

    def _keep(self, prepared: Prepared, outcome: Outcome, bundle: str) -> Record:
        kept, loaded = self.kept, outcome.loaded
        record = Record(
            signature=prepared.signature,
            slot=kept.slot,
            block_height=kept.block_height,
            block_time=self.unix_time,
            position=len(kept.records),
            transaction=prepared.transaction,
            error=outcome.error,
            fee=outcome.fee,
            keys=loaded.keys,
            loaded_writable=loaded.loaded_writable,
            loaded_readonly=loaded.loaded_readonly,
            pre_balances=outcome.pre_balances,
            post_balances=outcome.post_balances,
            pre_token_balances=outcome.pre_tokens,
            post_token_balances=outcome.post_tokens,
            inner_instructions=outcome.inner,
            logs=outcome.logs,
            units=outcome.units,
            return_data=outcome.return_data,
            bundle=bundle,
        )
        kept.add(record, prepared.message_hash, prepared.order, prepared.micro_lamports, loaded.writable)
        return record
