"""Read what :mod:`launcher.core.doctor_setup` judges. ``root`` stands for ``/`` in tests."""

from __future__ import annotations

import http.client
import json
import re
import resource
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from launcher.core.doctor_setup import Descriptor, SetupFacts
from launcher.io.sysfs import read_text

QCNL = "etc/sgx_default_qcnl.conf"
_DESCRIPTORS = ("etc/qemu/firmware", "usr/share/qemu/firmware")
_URL = re.compile(r'^\s*"?pccs_url"?\s*[:=]\s*"?(https://[^"\s,]{1,300})', re.IGNORECASE | re.MULTILINE)
_PATIENCE = 3.0
_MOST = 1 << 16


def probe_setup(log: tuple[str, ...] | None, root: Path = Path("/"), limit: int | None = None) -> SetupFacts:
    """Everything; ``log`` is the kernel's, read already, ``limit`` RLIMIT_MEMLOCK."""
    entropy = read_text(root / "proc/sys/kernel/random/entropy_avail")
    url = _URL.search(read_text(root / QCNL))
    return SetupFacts(
        descriptors=_descriptors(root),
        memlock=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if limit is None else limit,
        entropy=int(entropy) if entropy.isdigit() else None,
        overcommit=read_text(root / "proc/sys/vm/overcommit_memory") or None,
        pccs=None if url is None else (url[1], ask_pccs(url[1])),
        log=log,
    )


def _descriptors(root: Path) -> tuple[Descriptor, ...]:
    """In QEMU's order: a name in the first folder hides the same one in the second."""
    chosen: dict[str, Path] = {}
    for folder in _DESCRIPTORS:
        for path in sorted((root / folder).glob("*.json")):
            chosen.setdefault(path.name, path)
    return tuple(_descriptor(chosen[name], root) for name in sorted(chosen))


def _descriptor(path: Path, root: Path) -> Descriptor:
    text = read_text(path)
    if not text:
        return Descriptor(path.name, "", (), "")  # empty on purpose: it hides another one
    try:
        document = json.loads(text)
        mapping, features = document["mapping"], tuple(str(item) for item in document["features"])
        firmware = mapping["executable"]["filename"] if mapping["device"] == "flash" else mapping["filename"]
        there = (root / str(firmware).lstrip("/")).is_file()
    except (ValueError, KeyError, TypeError):
        return Descriptor(path.name, "", (), "is no firmware descriptor")
    return Descriptor(path.name, str(firmware), features, "" if there else f"{firmware} is not there")


def ask_pccs(url: str) -> str:
    """What is wrong with the PCCS at ``url``; empty if it hands out Intel's root CA CRL. That it is the right service
    is not asked: whoever uses its answers checks Intel's signatures.
    """
    try:
        parts = urlsplit(url)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=_PATIENCE, context=context
        )
    except ValueError:
        return "no address"
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/rootcacrl")
        answer = connection.getresponse()
        body = answer.read(_MOST)
    except (OSError, http.client.HTTPException) as exc:
        return f"does not answer ({getattr(exc, 'strerror', None) or type(exc).__name__})"
    finally:
        connection.close()
    if answer.status != http.client.OK:
        return f"answers with status {answer.status}"
    return "" if body else "answers with nothing"
