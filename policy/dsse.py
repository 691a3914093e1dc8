"""What a DSSE envelope signs, for all who sign or verify one.

Source: DSSE 1.0.2, "Signature Definition". The type is inside what is signed, so that a signature of one kind of file
says nothing about another of the same bytes.
"""

from __future__ import annotations

LAUNCH_TYPE = "application/vnd.cvm.launch+json"
"""A host's statement about a launch."""


def pae(kind: str, body: bytes) -> bytes:
    """The pre-authentication encoding ``"DSSEv1" SP len SP type SP len SP body``."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
