"""What decoding one event gives, before anybody looks at its digest."""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """``name`` and ``detail`` as in :class:`policy.measured.MeasuredEvent`.

    ``covered``: bytes of which the digest must be the hash for ``detail`` to be proven; several where firmware differ,
    none where the digest covers something that is not in the log (a kernel, a table).
    """

    name: str
    detail: str = ""
    covered: tuple[bytes, ...] = ()
