"""Run by the guest's own Python on the build machine: compile modules and compress, so that neither depends on the
host.

Not imported by anything; see `launcher.image.sysroot`. Two commands:

``compile``   standard input: JSON list of ``[source file, path in the guest, optimisation level]``; for each,
standard output
              carries the length of the bytecode as 4 bytes, little-endian, and the bytecode itself.
``zstd N``    standard input compressed at level N with the guest's libzstd, one thread, to standard output.
"""

from __future__ import annotations

import ctypes
import json
import marshal
import sys
from importlib.util import MAGIC_NUMBER, source_hash

# PEP 552: hash-based, and the hash is not compared with a source file at run time (there is none in the image).
_UNCHECKED_HASH = (1).to_bytes(4, "little")


def bytecode(source: bytes, guest_path: str, optimize: int) -> bytes:
    """The content of a ``.pyc`` file."""
    code = compile(source, guest_path, "exec", dont_inherit=True, optimize=optimize)
    return MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(source) + marshal.dumps(code)


def compile_all() -> None:
    """The command ``compile``."""
    for source_file, guest_path, optimize in json.load(sys.stdin):
        with open(source_file, "rb") as file:  # noqa: PTH123  Python of another version, bare
            result = bytecode(file.read(), guest_path, optimize)
        sys.stdout.buffer.write(len(result).to_bytes(4, "little") + result)


def zstd(level: int) -> None:
    """The command ``zstd``."""
    library = ctypes.CDLL("libzstd.so.1")
    for name in ("ZSTD_compressBound", "ZSTD_compress"):
        getattr(library, name).restype = ctypes.c_size_t
    data = sys.stdin.buffer.read()
    size = library.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    target = ctypes.create_string_buffer(size)
    written = library.ZSTD_compress(target, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)), level)
    if library.ZSTD_isError(ctypes.c_size_t(written)):
        raise SystemExit(f"zstd: error {written}")
    sys.stdout.buffer.write(target.raw[:written])


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        compile_all()
    else:
        zstd(int(sys.argv[2]))
