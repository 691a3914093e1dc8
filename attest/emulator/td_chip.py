"""The emulated TD itself: its launch, its registers, and quotes over both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attest.emulator.td_pki import QuoteKeys, QuoteParts, build_quote, pem_chain, td_body
from attest.emulator.td_platform import QE_FIELDS, TEE_TCB_SVN
from attest.emulator.td_registers import TdRegisters
from attest.emulator.td_state import TdKeys
from attest.evidence.chip_port import ChipPortMalformed, ErrorAnswer, Frame, encode_answer
from attest.evidence.td_port import (
    ExtendAnswer,
    QuoteAnswer,
    QuoteRequest,
    decode_td_request,
    encode_td_answer,
)
from attest.evidence.td_report import BODY_10, BODY_15
from policy.errors import CvmError
from policy.vocab import LaunchDigest

LAYOUTS = {4: BODY_10, 5: BODY_15}
"""Quote version to TD report: what the quoting enclaves of TDX 1.0 and 1.5 give."""


class TdLaunch(NamedTuple):
    """What a real TDX module fixes at launch. The three identities have 48 bytes."""

    mrtd: LaunchDigest
    attributes: int
    xfam: int
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)


class TdChip:
    """Answers one TD's questions. ``check`` raises when ``registers`` are not what the TPM has."""

    def __init__(
        self, keys: TdKeys, launch: TdLaunch, registers: TdRegisters, check: Callable[[], None], version: int = 4
    ) -> None:
        self._keys = keys
        self._launch = launch
        self._registers = registers
        self._check = check
        self._version = version
        self._chain = pem_chain(keys.pck.der, keys.platform_ca.der, keys.root.der)

    def answer(self, frame: Frame | ChipPortMalformed) -> bytes:
        """The bytes to send back for one frame, or for one stretch of bytes that is none."""
        if isinstance(frame, ChipPortMalformed):
            return encode_answer(ErrorAnswer(frame.message))
        try:
            request = decode_td_request(frame)
            if isinstance(request, QuoteRequest):
                return encode_td_answer(QuoteAnswer(self.quote(request.report_data)))
            return encode_td_answer(ExtendAnswer(self._registers.extend_rtmr3(request.digest)))
        except CvmError as exc:
            return encode_answer(ErrorAnswer(exc.message))

    def quote(self, report_data: bytes) -> bytes:
        """A signed quote over ``report_data`` (64 bytes) and the registers as they are now."""
        self._check()
        layout = LAYOUTS[self._version]
        parts = QuoteParts(self._version, td_body(layout, self._fields(report_data)), layout, QE_FIELDS, self._chain)
        return build_quote(parts, QuoteKeys(self._keys.pck.key, self._keys.attestation))

    def _fields(self, report_data: bytes) -> dict[str, int | bytes]:
        launch = self._launch
        registers = {f"rtmr{number}": value for number, value in enumerate(self._registers.rtmrs)}
        newer = {"tee_tcb_svn2": TEE_TCB_SVN} if self._version == 5 else {}
        return {
            "tee_tcb_svn": TEE_TCB_SVN, "td_attributes": launch.attributes, "xfam": launch.xfam, "mrtd": launch.mrtd,
            "mrconfigid": launch.mrconfigid, "mrowner": launch.mrowner, "mrownerconfig": launch.mrownerconfig,
            "report_data": report_data, **registers, **newer,
        }  # fmt: skip
