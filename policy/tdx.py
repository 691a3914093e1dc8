"""Intel TDX and SGX words: TD attributes, XFAM, TCB statuses.

Sources: Intel, *TDX Module ABI Specification* (348551), tables "ATTRIBUTES" and "XFAM"; Intel, *SGX and TDX
Provisioning Certification Service* API v4, member ``tcbStatus``. Integers are little-endian on the wire. Undefined bits
are kept in the integer; whether they are tolerated is the policy's decision, not this module's.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from policy.bits import Bits


class TcbStatus(Enum):
    """How current a platform is, in Intel's words; the two last ones exist for TD report 1.5 only.

    ``NotSupported`` (no level matches) is not among them: it is a failed verification, never a status of claims.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


class TdAttributes(Bits):
    """The 64-bit field ATTRIBUTES of a TD, chosen by the host, enforced by the TDX module, signed in every quote."""

    DEBUG = 0
    ICSSD = 16
    SERVTD_EXT = 17
    LASS = 27
    SEPT_VE_DISABLE = 28
    MIGRATABLE = 29
    PKS = 30
    KL = 31
    TPA = 62
    PERFMON = 63
    NAMES: ClassVar[dict[int, str]] = {
        DEBUG: "DEBUG", 4: "HGS_PLUS_PROF", 5: "PERF_PROF", 6: "PMT_PROF", ICSSD: "ICSSD", SERVTD_EXT: "SERVTD_EXT",
        LASS: "LASS", SEPT_VE_DISABLE: "SEPT_VE_DISABLE", MIGRATABLE: "MIGRATABLE", PKS: "PKS", KL: "KL", TPA: "TPA",
        PERFMON: "PERFMON",
    }  # fmt: skip
    TUD = 0xFF
    """Bits 0 to 7: any of them set makes the TD untrusted (debuggable or profiled)."""
    KNOWN = sum(1 << bit for bit in NAMES)

    @property
    def debug(self) -> bool:
        """The host may read and change everything."""
        return self.bit(self.DEBUG)

    @property
    def sept_ve_disable(self) -> bool:
        """Pages that the host took away stop the TD instead of raising #VE, which the host could abuse."""
        return self.bit(self.SEPT_VE_DISABLE)

    @property
    def migratable(self) -> bool:
        """A migration TD may move this TD to another machine."""
        return self.bit(self.MIGRATABLE)


class Xfam(Bits):
    """Extended features available to a TD, bits as in XCR0 and IA32_XSS; bits 0 (x87) and 1 (SSE) are always set."""

    FIXED_1 = 0x3
    NAMES: ClassVar[dict[int, str]] = {
        0: "x87", 1: "SSE", 2: "AVX", 5: "AVX-512 opmask", 6: "AVX-512 ZMM_Hi256", 7: "AVX-512 Hi16_ZMM", 8: "PT",
        9: "PKRU", 10: "PASID", 11: "CET_U", 12: "CET_S", 13: "HDC", 14: "UINTR", 15: "LBR", 16: "HWP",
        17: "AMX TILECFG", 18: "AMX TILEDATA", 19: "APX",
    }  # fmt: skip
    KNOWN = sum(1 << bit for bit in NAMES)


class SgxAttributes(Bits):
    """ATTRIBUTES.FLAGS of an SGX enclave (the low 64 bits; the high 64 are XFRM)."""

    INIT, DEBUG, MODE64BIT, PROVISION_KEY, EINITTOKEN_KEY, CET, KSS, AEX_NOTIFY = 0, 1, 2, 4, 5, 6, 7, 10
    NAMES: ClassVar[dict[int, str]] = {
        INIT: "INIT", DEBUG: "DEBUG", MODE64BIT: "MODE64BIT", PROVISION_KEY: "PROVISION_KEY",
        EINITTOKEN_KEY: "EINITTOKEN_KEY", CET: "CET", KSS: "KSS", AEX_NOTIFY: "AEX_NOTIFY",
    }  # fmt: skip

    @property
    def debug(self) -> bool:
        """The host may read and change the enclave."""
        return self.bit(self.DEBUG)
