"""Decoding the ``[sgx]`` table of a policy. No key has a default; every problem is collected with its path."""

from __future__ import annotations

from policy.intel_table import platform_rules, tcb_rules
from policy.sgx_rules import SgxRules, Signer
from policy.table import Table
from policy.table_values import each, hex_list, hex_value, integer, integers, masked, number, one_hex


def sgx_rules(table: Table) -> SgxRules:
    """The rules of ``table``; what it lacks or has too much is recorded as a problem of ``table``."""
    rules = SgxRules(
        quote_versions=integers(table, "quote_versions", (3, 4, 5)),
        mrenclaves=hex_list(table, "mrenclaves", (32,), any_allowed=False) or (),
        signers=each(table, "signer", _signer),
        debug=table.choice("debug", ("allow", "forbid")) == "allow",
        provision_key=table.choice("provision_key", ("allow", "forbid")) == "allow",
        attributes=masked(table, "attributes", 64),
        xfrm_allowed=number(table, "xfrm_allowed", 64),
        xfrm_required=number(table, "xfrm_required", 64),
        miscselect=masked(table, "miscselect", 32),
        configid=hex_list(table, "configid", (64,), zero=True),
        configsvn_min=integer(table, "configsvn_min", 0, 65535),
        isvextprodid=hex_list(table, "isvextprodid", (16,), zero=True),
        isvfamilyid=hex_list(table, "isvfamilyid", (16,), zero=True),
        report_data=one_hex(table, "report_data", 64),
        platform=platform_rules(table),
        tcb=tcb_rules(table, relaunch=False),
    )
    table.finish()
    return rules


def _signer(table: Table) -> Signer:
    entry = Signer(
        mrsigner=hex_value(table, "mrsigner", 32),
        isvprodid=integer(table, "isvprodid", 0, 65535),
        isvsvn_min=integer(table, "isvsvn_min", 0, 65535),
        reason=table.value("reason", str) or "",
    )
    table.finish()
    return entry
