"""The table ``[exec]`` of a VM file: who may run commands in the guest once it is attested."""

from __future__ import annotations

from policy.late import fullmatch
from policy.table import Table

MAX_OPERATORS = 8
_KEY = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"


def operators(table: Table) -> tuple[str, ...]:
    """``[exec]``: base64url of raw Ed25519 public keys, as ``cvm exec --new-key`` prints them."""
    keys = table.strings("operators")
    for key in keys:
        if not fullmatch(_KEY, key):
            table.problem("operators", f"got {key[:60]!r}, want a key as `cvm exec --new-key FILE` prints it")
    if not 1 <= len(keys) <= MAX_OPERATORS or len(set(keys)) != len(keys):
        table.problem("operators", f"got {len(keys)} keys, want 1 to {MAX_OPERATORS}, each once")
    table.finish()
    return keys
