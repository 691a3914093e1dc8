"""Unpack what kernels and initrds are packed with. zstd through the system's libzstd, which every Debian has (dpkg
needs it); the rest through Python's own modules. Never more than a given number of bytes comes out.
"""

from __future__ import annotations

import bz2
import ctypes
import lzma
import zlib

from policy.errors import CvmError
from policy.named import NamedTuple

_CHUNK = 4 << 20


class UnpackFailed(CvmError):
    """Damaged, larger than allowed, or of a format this machine cannot unpack."""

    code = "unpack.failed"


class Unpacked(NamedTuple):
    """What one stream held, and how many bytes of the input it took."""

    data: bytes
    taken: int


def unpack(data: bytes, compression: str, most: int, what: str) -> Unpacked:
    """The first stream of ``data``. ``compression``: zstd, xz, lzma, gzip, bzip2, or none, which takes everything.
    Raises :class:`UnpackFailed`.
    """
    if compression == "none":
        return Unpacked(_bounded(data, most, what), len(data))
    if compression == "zstd":
        return _zstd(data, most, what)
    try:
        if compression == "gzip":
            gzip = zlib.decompressobj(31)
            unpacked, ended, rest = gzip.decompress(data, most + 1), gzip.eof, gzip.unused_data
        else:
            stream = bz2.BZ2Decompressor() if compression == "bzip2" else lzma.LZMADecompressor()
            unpacked, ended, rest = stream.decompress(data, most + 1), stream.eof, stream.unused_data
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as exc:
        raise UnpackFailed(f"{what}: {compression}: {exc}") from None
    _bounded(unpacked, most, what)
    if not ended:
        raise UnpackFailed(f"{what}: {compression}: cut short")
    return Unpacked(unpacked, len(data) - len(rest))


def _bounded(data: bytes, most: int, what: str) -> bytes:
    if len(data) > most:
        raise UnpackFailed(f"{what}: more than {most} bytes unpacked")
    return data


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer (zstd.h): address, size, position."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


def _zstd(data: bytes, most: int, what: str) -> Unpacked:
    """One frame."""
    library = _libzstd(what)
    context = library.ZSTD_createDCtx()
    source = ctypes.create_string_buffer(data, len(data))
    target = ctypes.create_string_buffer(_CHUNK)
    given = _Buffer(ctypes.addressof(source), len(data), 0)
    pieces: list[bytes] = []
    total, left = 0, 1
    try:
        while left:
            taken = _Buffer(ctypes.addressof(target), _CHUNK, 0)
            left = library.ZSTD_decompressStream(context, ctypes.byref(taken), ctypes.byref(given))
            if library.ZSTD_isError(left):
                raise UnpackFailed(f"{what}: zstd: {library.ZSTD_getErrorName(left).decode('ascii', 'replace')}")
            if left and not taken.at and given.at == given.size:
                raise UnpackFailed(f"{what}: zstd: cut short")
            pieces.append(ctypes.string_at(target, taken.at))
            total += taken.at
            if total > most:
                raise UnpackFailed(f"{what}: more than {most} bytes unpacked")
    finally:
        library.ZSTD_freeDCtx(context)
    return Unpacked(b"".join(pieces), given.at)


def _libzstd(what: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as exc:
        raise UnpackFailed(f"{what}: zstd: {exc}", hint="apt install libzstd1") from None
    pointer = ctypes.POINTER(_Buffer)
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
    library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, pointer, pointer)
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library
