"""The table of pages. What is not in it does not exist; each is served as HTML and, with ``.json``, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attest.web.dashboard import anomalies, chips, compliance, decisions, endorsements, overview, records, rules, vms
from attest.web.dashboard.house import Ask


@dataclass(frozen=True, slots=True)
class Page:
    """``build`` gives the data of both forms; the template adds nothing to it but words. ``section`` is the entry of
    the menu it belongs to.
    """

    name: str
    path: str
    section: str
    build: Callable[[Ask], dict[str, Any]]

    @property
    def schema(self) -> str:
        """The schema its JSON names."""
        return f"attest.dashboard.{self.name}/1"

    @property
    def endpoint(self) -> str:
        """Its name in the application."""
        return self.name

    @property
    def template(self) -> str:
        """Its template."""
        return f"{self.name}.html"


PAGES = (
    Page("overview", "/overview", "overview", overview.overview),
    Page("vms", "/vms", "vms", vms.vms),
    Page("vm", "/vm", "vms", vms.vm),
    Page("decisions", "/decisions", "decisions", decisions.decisions),
    Page("decision", "/decisions/<int:number>", "decisions", decisions.decision),
    Page("policies", "/policies", "policies", rules.policies),
    Page("policy", "/policies/<int:number>", "policies", rules.policy),
    Page("references", "/references", "references", rules.references),
    Page("reference", "/references/<int:number>", "references", rules.reference),
    Page("endorsements", "/endorsements", "endorsements", endorsements.endorsements),
    Page("fleet", "/fleet", "fleet", chips.fleet),
    Page("chip", "/chips/<chip>", "fleet", chips.chip),
    Page("anomalies", "/anomalies", "anomalies", anomalies.anomalies),
    Page("records", "/records", "records", records.records_page),
    Page("record", "/records/<int:number>", "records", records.record),
    Page("compliance", "/compliance", "compliance", compliance.compliance),
    Page("family", "/compliance/<family>", "compliance", compliance.family),
)
PROOF = "/records/<int:number>/proof"
