"""The policy of a running service, with ``--service``: tried, put in force, listed, shown, gone back to."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from attest.cli.policy_file import signed_policy
from attest.cli.remote import Request, answer
from attest.keys.statement import POLICY, Signed, envelope

_POLICY = "/cvm/v0/policy"


def put_there(args: Namespace, signed: Signed) -> dict[str, Any]:
    """Put it in force; name, version, and by whom it is signed."""
    return answer(args, Request("POST", _POLICY, {}, _sent(signed)))


def would_take(args: Namespace) -> dict[str, Any]:
    """Whether the service would put ``args.file`` in force. Raises ServiceRefused with its reason."""
    return answer(args, Request("POST", f"{_POLICY}/check", {}, _sent(signed_policy(args.file))))


def roll_back_there(args: Namespace, version: int) -> dict[str, Any]:
    """Put that version in force again."""
    return answer(args, Request("POST", f"{_POLICY}/rollback", {"version": str(version)}))


def versions_there(args: Namespace) -> list[dict[str, Any]]:
    """Every version, oldest first."""
    found: list[dict[str, Any]] = answer(args, Request("GET", _POLICY))["versions"]
    return found


def version_there(args: Namespace, version: int | None) -> dict[str, Any]:
    """One with its text; ``None``: the one in force."""
    return answer(args, Request("GET", f"{_POLICY}/{'current' if version is None else version}"))


def _sent(signed: Signed) -> bytes:
    """The file, in an envelope with its signatures where it has some."""
    return envelope(POLICY, signed, detached=False) if signed.signatures else signed.data
