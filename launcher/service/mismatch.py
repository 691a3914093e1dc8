"""Why the firmware refused: compare the boot hash table it was given with the files it was given."""

from __future__ import annotations

from launcher.core import names
from launcher.io.hashing import read_file
from launcher.service.record import Record
from ovmf.kernel_hashes import TABLE_SIZE, parse_hash_table
from policy.errors import CvmError


def explain_refusal(record: Record) -> str:
    """A sentence that names what does not match."""
    measured = record.prepared.measured
    text = "the firmware refused to start the kernel: "
    try:
        table = parse_hash_table(read_file(record.vm.file(names.HASH_TABLE), "hash table", TABLE_SIZE))
    except CvmError as exc:
        return f"{text}the boot hash table is no such table ({exc.message})"
    if measured is None or measured.hashes is None:
        return f"{text}a boot hash does not match"
    given = measured.hashes
    pairs = (
        ("kernel", table.kernel_sha256, given.kernel_sha256),
        ("initrd", table.initrd_sha256, given.initrd_sha256),
        ("command line", table.cmdline_sha256, given.cmdline_sha256),
    )
    wrong = [f"{name}: measured {want.hex()[:16]}…, got {got.hex()[:16]}…" for name, want, got in pairs if want != got]
    if not wrong:
        return f"{text}it stopped in its dead loop although every boot hash matches the files as they were planned"
    return f"{text}{'; '.join(wrong)}"
