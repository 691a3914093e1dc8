"""Who a guest is: what its init-data says, which the launch is bound to, and which machine and launch reported.

Init-data names the VM in a file of its own, ``[data] "cvm-identity.toml"``, whose text is TOML with ``vm``, ``service``
and ``resources``, all optional. Only resources it lists are released to the VM where it lists any. The text counts only
after its digest was found in HOST_DATA or MRCONFIGID, which appraisal refuses to pass otherwise.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

from attest.broker.errors import RequestMalformed
from attest.broker.limits import machine_of
from attest.broker.protocol import InitData
from policy.claims import SnpClaims, TcbClaims, TdxClaims, VerifiedClaims
from policy.errors import MalformedInput
from policy.release_conditions import GuestFacts
from policy.snp import TcbVersion
from policy.toml import TomlInvalid, strict_toml
from policy.vocab import ResourcePath

IDENTITY = "cvm-identity.toml"
MAX_RESOURCES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@ -]{0,127}")


def vm_of(init_data: InitData | None) -> str | None:
    """The VM's name. Raises RequestMalformed where the identity does not parse: a guest with half a name is nobody."""
    return None if init_data is None else vm_named(init_data.body)


def vm_named(text: str) -> str | None:
    """The VM's name in the text of init-data. Raises RequestMalformed."""
    return _identity(text).get("vm")


def facts_of(claims: VerifiedClaims, init_data: InitData | None) -> GuestFacts:
    """The facts of an accepted guest."""
    identity = {} if init_data is None else _identity(init_data.body)
    machine = machine_of(claims.tee)
    tee = claims.tee
    return GuestFacts(
        launch_digest=_digest(tee),
        machine=machine.hex() if any(machine) else None,
        instance=tee.report_id.hex() if isinstance(tee, SnpClaims) else "",
        tcb=_tcb(tee.reported_tcb) if isinstance(tee, SnpClaims) else None,
        tdx_tcb=_td_tcb(tee.tcb) if isinstance(tee, TdxClaims) else None,
        **identity,
    )


def facts_to_text(facts: GuestFacts) -> str:
    """As a decision keeps them."""
    return json.dumps(asdict(facts), sort_keys=True)


def facts_from_text(text: str | None) -> GuestFacts:
    """As they were; a decision from before facts were kept has none, which no condition accepts."""
    if text is None:
        return GuestFacts()
    found = json.loads(text)
    resources = found.pop("resources")
    return GuestFacts(resources=None if resources is None else tuple(resources), **found)


def _digest(tee: object) -> str:
    if isinstance(tee, SnpClaims):
        return tee.measurement.hex()
    return tee.mrtd.hex() if isinstance(tee, TdxClaims) else getattr(tee, "mrenclave", b"").hex()


def _tcb(version: TcbVersion) -> dict[str, int]:
    return {name: number for name, number in asdict(version).items() if number is not None}


def _td_tcb(tcb: TcbClaims) -> dict[str, str | int]:
    return {
        "status": tcb.status.value,
        "tcb_date": tcb.tcb_date.date().isoformat(),
        "evaluation": tcb.evaluation_number,
    }


def _identity(text: str) -> dict[str, Any]:
    try:
        data = strict_toml(text).get("data")
        identity = data.get(IDENTITY) if isinstance(data, dict) else None
        if identity is None:
            return {}
        if not isinstance(identity, str):
            raise RequestMalformed(f"attest: init-data: {IDENTITY}: want text")
        return _parsed(strict_toml(identity))
    except TomlInvalid as exc:
        raise RequestMalformed(f"attest: init-data: {IDENTITY}: {exc.message}") from None


def _parsed(found: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(found) - {"vm", "service", "resources"}:
        raise RequestMalformed(f"attest: init-data: {IDENTITY}: {sorted(unknown)[0][:40]!r} is unknown")
    for name in ("vm", "service"):
        value = found.get(name)
        if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
            raise RequestMalformed(f"attest: init-data: {IDENTITY}: {name}: want a name of at most 128 characters")
    if "resources" in found:
        found["resources"] = _resources(found["resources"])
    return found


def _resources(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_RESOURCES or not all(isinstance(one, str) for one in value):
        raise RequestMalformed(f"attest: init-data: {IDENTITY}: resources: want a list of at most {MAX_RESOURCES}")
    try:
        return tuple(str(ResourcePath.parse(one)) for one in value)
    except MalformedInput as exc:
        raise RequestMalformed(f"attest: init-data: {IDENTITY}: resources: {exc.message}") from None
