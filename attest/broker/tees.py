"""The kinds of TEE whose evidence the service takes, by the names of the KBS protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from attest.broker.collateral import ServiceCollateral
from attest.broker.present_snp import present_snp, restore_snp
from attest.broker.present_tdx import present_tdx, restore_tdx
from attest.broker.presented import Blob, Presented
from policy.document import PolicyDocument


class Tee(NamedTuple):
    """How evidence of one kind gets in: from a request, and from the record of a decision."""

    present: Callable[[object, ServiceCollateral, PolicyDocument, bytes, datetime], Presented]
    restore: Callable[[Mapping[str, Any], Blob], Presented]


TEES: Mapping[str, Tee] = {"snp": Tee(present_snp, restore_snp), "tdx": Tee(present_tdx, restore_tdx)}
