"""Policies on a command line: a shipped one by its name, or a file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from attest.keys.statement import POLICY, Signed, signature_beside, unwrap
from attest.store.errors import NotFound
from policy.document import PolicyDocument
from policy.errors import ConfigInvalid

SHIPPED = ("strict", "cloud-aws", "cloud-gcp", "cloud-azure", "demo")
"""Names of ``policy/documents``; a file of such a name is reached as ``./strict``."""

EMULATED = " — accepts EMULATED hardware, which protects nothing"
PLACEHOLDER = "@EMULATED_ROOT@"
_NO_ROOT = "0" * 64
_MAX_BYTES = 1 << 20


class PolicyUnreadable(NotFound):
    """A policy named on the command line is not there, or may not be read."""

    code = "file.unreadable"


def policy_bytes(name: str) -> bytes:
    """The policy of this name, or the file's bytes. Raises :class:`PolicyUnreadable` or ``ConfigInvalid``.

    A policy for emulated chips leaves the root open until ``attest init`` fills it in; here it is a key nobody has.
    """
    data = signed_policy(name).data
    return data.replace(PLACEHOLDER.encode(), _NO_ROOT.encode()) if name in SHIPPED else data


def signed_policy(name: str) -> Signed:
    """The policy of this name with the signatures inside or beside its file. Raises as :func:`raw_policy` does."""
    data = raw_policy(name)
    if name in SHIPPED:
        return Signed(data)
    beside = signature_beside(Path(name))
    return unwrap(data, POLICY, raw_policy(str(beside)) if beside.exists() else None)


def emulated_words(document: PolicyDocument) -> str:
    """What has to be said beside the name of a policy that trusts emulated chips."""
    return EMULATED if document.emulated_allowed else ""


def raw_policy(name: str) -> bytes:
    """As :func:`policy_bytes`, a shipped policy exactly as shipped."""
    if name in SHIPPED:
        return (files("policy") / "documents" / f"{name}.toml").read_bytes()
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise PolicyUnreadable(
            f"policy {name}: cannot be read: {reason}", hint=f"shipped policies: {', '.join(SHIPPED)}"
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigInvalid(name, (f"more than {_MAX_BYTES} bytes",))
    return data
