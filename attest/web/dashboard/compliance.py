"""Which records answer which control, and the command that prints them.

A record shows what this service did. It does not show what an organisation must do around it; each entry says so where
that matters. Sources: ISO/IEC 27001:2022 Annex A, AICPA Trust Services Criteria 2017 (revised points of focus 2022),
Regulation (EU) 2016/679 Article 32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attest.audit import record as kinds
from attest.store.errors import NotFound
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import newest, of_kind

_RELEASES = (kinds.RELEASE, kinds.REFUSED_RELEASE)
_RULES = (kinds.POLICY_APPLY, kinds.REFERENCE_ADD, kinds.REFERENCE_RETIRE)


@dataclass(frozen=True, slots=True)
class Control:
    """``kinds`` of records answer it, ``commands`` print them, ``open`` is left to the organisation."""

    id: str
    title: str
    answer: str
    kinds: tuple[str, ...]
    commands: tuple[str, ...]
    open: str


@dataclass(frozen=True, slots=True)
class Family:
    """The controls of one standard that the records speak to."""

    name: str
    title: str
    about: str
    controls: tuple[Control, ...]


ISO = Family(
    "iso-27001",
    "ISO/IEC 27001:2022, Annex A",
    "Cryptography, access and logging.",
    (
        Control(
            "A.8.24",
            "Use of cryptography",
            "Disk keys are stored under envelope encryption and leave only encrypted to a key in an attested guest. "
            "Every stored, replaced and erased key is a record with its version, size and the master key's id; so is "
            "every change of the service's own keys, by their public halves or ids.",
            (
                kinds.RESOURCE_PUT,
                kinds.RESOURCE_DELETE,
                *_RELEASES,
                kinds.KEYS_CHANGE,
                kinds.KEYS_REWRAP,
                kinds.TOKEN_KEY,
            ),
            (
                "attest audit list --kind resource-put --json",
                "attest audit list --kind release --json",
                "attest audit list --kind keys-change --json",
                "attest key list --json",
            ),
            "Rules for algorithms and key lengths, custody of the master key, its rotation.",
        ),
        Control(
            "A.8.15",
            "Logging",
            "Each decision, release, refusal and change of rules is a record in a Merkle tree with signed checkpoints; "
            "removing or changing one is found, by a stranger and offline.",
            (kinds.DECISION, *_RELEASES, *_RULES),
            ("attest audit list --json", "attest audit verify --json", "attest audit checkpoint --json"),
            "How long records are kept, who reads them.",
        ),
        Control(
            "A.8.17",
            "Clock synchronization",
            "Every record carries the service's clock in UTC, read once per request.",
            (kinds.DECISION,),
            ("attest audit list --kind decision --since 2026-01-01 --json",),
            "Synchronising the clock of the machine (NTP or NTS).",
        ),
        Control(
            "A.5.28",
            "Collection of evidence",
            "A decision keeps the evidence, endorsements, policy and reference values it rests on, so it can be made "
            "again as of its date; a proof file carries all of it to whoever asks.",
            (kinds.DECISION,),
            ("attest audit prove 1 -o proof-1.json", "attest audit verify proof-1.json --log-key log.pub"),
            "Handling of the files after they were handed over.",
        ),
        Control(
            "A.8.9",
            "Configuration management",
            "Only launches that match a registered reference value are accepted; policy and reference values change by "
            "recorded acts that name who did it. Settings that decide and the collateral in force are on record "
            "whenever they are others than before.",
            (*_RULES, kinds.SETTINGS_CHANGE, kinds.COLLATERAL_CHANGE, kinds.COLLATERAL_LOAD),
            (
                "attest audit list --kind policy-apply --json",
                "attest reference list --json",
                "attest audit ask changes --since 2026-01-01 --json",
            ),
            "Review and approval before a change.",
        ),
    ),
)
SOC2 = Family(
    "soc-2",
    "SOC 2, CC6 and CC7",
    "Logical access, and system operations.",
    (
        Control(
            "CC6.1",
            "Logical access to protected information",
            "A key is released only to a guest whose report, launch digest and TCB fulfil the policy in force; "
            "the record holds every rule with expected and actual value.",
            (kinds.DECISION, *_RELEASES),
            ("attest audit list --kind decision --json", "attest audit show 1 --json"),
            "Who may change the policy.",
        ),
        Control(
            "CC6.2",
            "Registering and removing access",
            "Reference values are registered and retired by name; from that moment decisions follow, and tokens given "
            "before no longer open anything. Another authority or provider behind operators or auditors is on record.",
            (kinds.REFERENCE_ADD, kinds.REFERENCE_RETIRE, kinds.TOKEN_REVOKE, kinds.ROLES_CHANGE),
            (
                "attest audit list --kind reference-add --json",
                "attest audit list --kind reference-retire --json",
                "attest audit list --kind roles-change --json",
            ),
            "Joiners and leavers among operators.",
        ),
        Control(
            "CC6.7",
            "Restricting transmission of information",
            "Keys travel encrypted to the guest's own key, inside TLS; each release names the key it was encrypted to.",
            (kinds.RELEASE,),
            ("attest audit list --kind release --json",),
            "What guests do with what they got.",
        ),
        Control(
            "CC7.2",
            "Monitoring for anomalies",
            "Refused attestations and refused releases are recorded like accepted ones, with reasons; counters of both "
            "are served for monitoring.",
            (kinds.DECISION, kinds.REFUSED_RELEASE),
            (
                "attest audit list --kind decision --json",
                "attest audit list --kind release-refused --json",
                "attest audit ask anomalies --json",
            ),
            "Alerting on them, and answering alerts.",
        ),
        Control(
            "CC7.3",
            "Evaluating security events",
            "For a refused guest the service says which input of the launch differs, proven by a recipe that gives the "
            "reported digest.",
            (kinds.DECISION,),
            ("attest reference explain --decision 1 --json", "attest audit show 1"),
            "Deciding what an event means for the organisation.",
        ),
    ),
)
GDPR = Family(
    "gdpr-32",
    "GDPR, Article 32",
    "Security of processing.",
    (
        Control(
            "32(1)(a)",
            "Encryption of personal data",
            "Disks are encrypted and their keys released only to attested guests; releases show when a disk could be "
            "read, and by what.",
            (kinds.RESOURCE_PUT, kinds.RELEASE),
            ("attest key list --json", "attest audit list --kind release --json"),
            "Pseudonymisation inside the application.",
        ),
        Control(
            "32(1)(b)",
            "Ongoing confidentiality and integrity",
            "Memory encryption and integrity are claims of the hardware; the policy demands and decisions show them.",
            (kinds.DECISION, kinds.POLICY_APPLY),
            ("attest audit list --kind decision --json", "attest collateral status --json"),
            "Availability and resilience of the guests.",
        ),
        Control(
            "32(1)(d)",
            "Regularly testing and evaluating",
            "Every decision on record can be made again from its evidence; a difference is reported.",
            (kinds.DECISION,),
            ("attest audit verify --json",),
            "The process that runs it, and acts on it.",
        ),
    ),
)
FAMILIES = (ISO, SOC2, GDPR)


def compliance(ask: Ask) -> dict[str, Any]:
    """The families."""
    return {"families": [{**asdict(item), "controls": len(item.controls)} for item in FAMILIES]}


def family(ask: Ask) -> dict[str, Any]:
    """One family: each control with its newest record of each kind."""
    found = next((item for item in FAMILIES if item.name == ask.arguments["family"]), None)
    if found is None:
        raise NotFound(f"control family {str(ask.arguments['family'])[:40]!r}: not found")
    return {
        **{name: getattr(found, name) for name in ("name", "title", "about")},
        "controls": [asdict(control) | {"newest": _newest(ask, control)} for control in found.controls],
    }


def _newest(ask: Ask, control: Control) -> list[dict[str, Any]]:
    """The number of the newest record of each kind; ``None`` where there is none yet."""
    found = []
    for kind in control.kinds:
        stored = newest(ask.tx, 1, of_kind(kind))
        found.append({"kind": kind, "number": stored[0].seq if stored else None})
    return found
