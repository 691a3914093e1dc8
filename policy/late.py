"""What costs start-up time, loaded at its first use: a launch of a plain VM gets by without.

:mod:`re` and the first pattern take three milliseconds, OpenSSL behind :mod:`hashlib` as much.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from hashlib import sha256 as small_sha256
else:
    try:
        from _sha256 import sha256 as small_sha256  # a tenth of OpenSSL's speed, and loaded at once
    except ImportError:  # Python 3.12 and later
        from hashlib import sha256 as small_sha256

__all__ = ["fullmatch", "small_sha256"]


def fullmatch(pattern: str, text: str) -> re.Match[str] | None:
    """As `re.fullmatch`."""
    import re

    return re.fullmatch(pattern, text)
