"""Why collateral is not at hand. None of these says anything about a guest: they are never a refusal of evidence."""

from __future__ import annotations

from attest.errors import AttestError, Kind


class CollateralUnreadable(AttestError):
    """A folder that was named cannot be read."""

    code = "collateral.unreadable"


class CollateralUnavailable(AttestError):
    """The vendor's service could not be asked, did not answer, or is not to be asked so soon again.

    ``retry_after`` is the number of seconds after which asking again makes sense, where that is known.
    """

    code = "collateral.unavailable"
    kind: Kind = "unavailable"

    def __init__(
        self, message: str, *, code: str | None = None, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after = retry_after


class CollateralPaced(CollateralUnavailable):
    """Our own limit: the service was not asked, because it gave others something in the last seconds, or failed.

    Nobody failed, so nothing is remembered: whoever invents chip ids must not fill the cache with memories.
    """

    code = "collateral.paced"


class CollateralNotFound(CollateralUnavailable):
    """The vendor knows no such thing (404): usually a wrong name for it. Asking again does not help."""

    code = "collateral.not-found"


class CollateralGone(CollateralNotFound):
    """There was such a thing once and it is not served any more (410): an old TCB evaluation data number."""

    code = "collateral.gone"


class CollateralRefused(CollateralUnavailable):
    """An answer came and is not what was asked for, or is not the vendor's. It is not kept."""

    code = "collateral.refused"


class CacheUnusable(CollateralUnavailable):
    """The cache folder cannot be read or written."""

    code = "collateral.cache"


class BundleRefused(AttestError):
    """An item of a bundle does not verify; nothing of the bundle was stored."""

    code = "bundle.refused"
    kind: Kind = "guest"
