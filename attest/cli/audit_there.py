"""The audit log of a running service, with ``--service``: a checkpoint signed now, and proofs under it."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import dataclass
from typing import BinaryIO

from attest.audit.checkpoint import checkpoint_of
from attest.audit.note import MAX_NOTE, Note, parse_note
from attest.broker.log_asked import MOST
from attest.cli.operator import ask, ask_json
from attest.store.errors import NotFound, StoreUnavailable
from policy.errors import ConfigInvalid

PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.1
_LOG = "/cvm/v0/log"


@dataclass(frozen=True, slots=True)
class LogThere:
    """Whose listener, and who asks."""

    args: Namespace

    def checkpoint(self) -> Note:
        """One that covers everything on record now. Raises StoreUnavailable where none comes in time."""
        size: int = ask_json(self.args, "POST", f"{_LOG}/checkpoint", {})["size"]
        until = time.monotonic() + PATIENCE_SECONDS
        while (note := self._newest()) is None or checkpoint_of(note).size < size:
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"service {self.args.service}: no checkpoint of {size} records came, see its log"
                )
            time.sleep(_LOOK_SECONDS)
        return note

    def prove(self, wanted: int | range | None, out: BinaryIO) -> str:
        """Write a proof, or a bundle of several; what it is of. ``None``: every record."""
        size = checkpoint_of(self.checkpoint()).size
        first, last = (wanted, None) if isinstance(wanted, int) else _bounds(wanted or range(1, size + 1))
        query = {} if last is None else {"to": str(last)}
        out.write(ask(self.args, "GET", f"/cvm/v0/audit/{first}/proof", query))
        return f"proof of record {first}" if last is None else f"proofs of records {first} to {last}"

    def growth(self, old: bytes, out: BinaryIO) -> None:
        """Write the proof that the log extends ``old``."""
        self.checkpoint()
        out.write(ask(self.args, "POST", f"{_LOG}/growth", {}, old))

    def _newest(self) -> Note | None:
        try:
            return parse_note(ask(self.args, "GET", f"{_LOG}/checkpoint", {})[: MAX_NOTE + 1])
        except NotFound:
            return None  # the first one is being signed


def _bounds(wanted: range) -> tuple[int, int]:
    if len(wanted) > MOST:
        raise ConfigInvalid("N", (f"got {len(wanted)} records, a service proves {MOST} at once: ask for FROM..TO",))
    return wanted.start, wanted.stop - 1
