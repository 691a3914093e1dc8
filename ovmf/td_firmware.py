"""A firmware image as a TD sees it: TDVF sections, MRTD, the configuration volume, the layout of its measurements."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256

from ovmf.errors import FirmwareMalformed
from ovmf.firmware import MAX_FIRMWARE
from ovmf.footer import parse_footer
from ovmf.mrtd import mrtd
from ovmf.td_layout import TdLayout, layout_of_modules
from ovmf.td_metadata import CFV, TdSection, parse_td_sections
from ovmf.variables import Key, parse_variables
from ovmf.volumes import modules
from policy.fixed import LaunchDigest


class TdFirmware:
    """A parsed image, made by :meth:`from_bytes`. What takes longer is read when first asked for."""

    def __init__(self, data: bytes, sections: tuple[TdSection, ...]) -> None:
        self._data = data
        self.sections = sections

    @classmethod
    def from_bytes(cls, data: bytes) -> TdFirmware:
        """Parse a whole image, or raise :class:`FirmwareMalformed`: no footer, no TDVF descriptor, bad sections."""
        if not 0 < len(data) <= MAX_FIRMWARE:
            raise FirmwareMalformed(f"firmware: size got {len(data)} bytes, want at most {MAX_FIRMWARE >> 20} MiB")
        offset = parse_footer(data).tdx_metadata_offset()
        if offset is None:
            raise FirmwareMalformed(
                "firmware: footer: no TDX metadata, so it cannot start a TD",
                hint="use an OVMF build with TDX support, such as OVMF.inteltdx.ms.fd or OVMF.fd of ovmf-generic",
            )
        return cls(data, parse_td_sections(data, offset))

    def mrtd(self, *, two_pass: bool = False) -> LaunchDigest:
        """MRTD, 48 bytes, see `ovmf.mrtd`."""
        return mrtd(self._data, self.sections, two_pass=two_pass)

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        return sha256(self._data).digest()

    @cached_property
    def configuration(self) -> bytes | None:
        """The raw data of the configuration firmware volume; ``None`` unless the image has exactly one."""
        found = [section for section in self.sections if section.type == CFV and section.raw_size]
        if len(found) != 1:
            return None
        return self._data[found[0].data_offset : found[0].data_offset + found[0].raw_size]

    @cached_property
    def variables(self) -> dict[Key, bytes]:
        """The variables in the configuration volume (none without one). Raises `ovmf.errors.VariablesMalformed`."""
        return {} if self.configuration is None else parse_variables(self.configuration)

    @cached_property
    def layout(self) -> TdLayout:
        """What the build decides about its measurements. Raises :class:`FirmwareMalformed`."""
        return layout_of_modules(modules(self._data))
