"""Who a guest is: what its init-data says (`policy.initdata`), and which machine and launch reported.

The text counts only after its digest was found in HOST_DATA or MRCONFIGID, which appraisal refuses to pass otherwise.
"""

from __future__ import annotations

import json
from dataclasses import fields

from attest.broker.initdata import sent_init_data
from attest.broker.limits import machine_of
from policy.claims import SnpClaims, TcbClaims, TdxClaims, VerifiedClaims
from policy.initdata import Identity, InitDataText
from policy.release_conditions import GuestFacts

_FACTS = tuple(field.name for field in fields(GuestFacts))


def vm_named(text: str) -> str | None:
    """The VM's name in the text of init-data. Raises RequestMalformed."""
    return sent_init_data(text).identity.vm


def facts_of(claims: VerifiedClaims, init_data: InitDataText | None) -> GuestFacts:
    """The facts of an accepted guest."""
    identity = Identity() if init_data is None else init_data.identity
    machine = machine_of(claims.tee)
    tee = claims.tee
    return GuestFacts(
        launch_digest=_digest(tee),
        machine=machine.hex() if any(machine) else None,
        instance=tee.report_id.hex() if isinstance(tee, SnpClaims) else "",
        tcb=tee.reported_tcb.parts() if isinstance(tee, SnpClaims) else None,
        tdx_tcb=_td_tcb(tee.tcb) if isinstance(tee, TdxClaims) else None,
        **identity._asdict(),
    )


def facts_to_text(facts: GuestFacts) -> str:
    """As a decision keeps them."""
    return json.dumps({name: getattr(facts, name) for name in _FACTS}, sort_keys=True)


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


def _td_tcb(tcb: TcbClaims) -> dict[str, str | int]:
    return {
        "status": tcb.status.value,
        "tcb_date": tcb.tcb_date.date().isoformat(),
        "evaluation": tcb.evaluation_number,
    }
