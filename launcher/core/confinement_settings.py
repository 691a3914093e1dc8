"""The values of ``[isolation]``; apart from the rest, because every VM has them."""

from __future__ import annotations

from policy.named import NamedTuple


class IsolationSettings(NamedTuple):
    """``[isolation]``. ``mode``: auto (everything this kernel allows, and say what it refused), strict (all or no
    start) or off. ``user``: auto (a number of its own, when the launcher is root), none, or that number.
    """

    mode: str = "auto"
    user: str | int = "auto"
