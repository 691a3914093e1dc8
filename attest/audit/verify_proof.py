#!/usr/bin/env python3
"""Check an audit proof with Python's standard library and ``cryptography``, without installing anything else of ours.

    python3 verify_proof.py PROOF.json LOG.PUB [WITNESS.PUB …]

It checks that the record in PROOF.json is an entry of the log whose public key is in LOG.PUB, that each witness named
has cosigned that checkpoint, and that every attached file has the digest it is named by. It prints the record, and the
decision that a release rests on; of a bundle of proofs all records, one a line. It does *not* judge the evidence again:
``attest audit verify`` does that from the same file. Written to be read in one sitting, and kept apart on purpose:
nothing here is imported from the rest of the program. Formats: C2SP signed-note, tlog-checkpoint, tlog-cosignature and
tlog-proof; RFC 6962, section 2.1; RFC 9162, section 2.1.3.2; ``attest.audit.proof/1`` and ``attest.audit.bundle/1`` as
``docs/PROOFS.md`` describes them.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):  # what happened, as everywhere here
    """The proof does not hold, and why."""


def public_key(text: str) -> tuple[str, int, bytes]:
    """Name, kind (1: log, 4: witness) and 32 key bytes from ``name+id+base64``."""
    name, _, rest = text.strip().partition("+")
    raw = base64.b64decode(rest.partition("+")[2], validate=True)
    if len(raw) != 33 or raw[0] not in (1, 4):
        raise Refused(f"{name}: not an Ed25519 key of a log or witness")
    return name, raw[0], raw[1:]


def key_id(name: str, kind: int, key: bytes) -> bytes:
    """The four bytes that mark this key's signatures."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


def check_signature(text: str, lines: list[str], key: tuple[str, int, bytes]) -> None:
    """One of the signature ``lines`` is this key's, over ``text``."""
    name, kind, raw = key
    for line in lines:
        if not line.startswith(f"— {name} "):
            continue
        signature = base64.b64decode(line.rpartition(" ")[2], validate=True)
        if signature[:4] != key_id(name, kind, raw):
            continue
        message, value = text.encode(), signature[4:]
        if kind == 4:
            message = f"cosignature/v1\ntime {int.from_bytes(value[:8], 'big')}\n".encode() + message
            value = value[8:]
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(value, message)
        except InvalidSignature:
            raise Refused(f"the signature of {name} does not verify") from None
        return
    raise Refused(f"not signed by {name}")


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that follows from a leaf hash and its audit path."""
    node, last, rest = leaf, size - 1, list(path)
    if not 0 <= index < size:
        raise Refused(f"entry {index} of a log of {size}")
    while last:
        if index & 1 or index < last:
            if not rest:
                raise Refused("the audit path is too short")
            other = rest.pop(0)
            pair = other + node if index & 1 else node + other
            node = hashlib.sha256(b"\1" + pair).digest()
        index, last = index >> 1, last >> 1
    if rest:
        raise Refused("the audit path is too long")
    return node


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose members have different names."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("a JSON member appears twice")
    return found


def check_note(note: str, log: str, witnesses: list[str]) -> tuple[int, bytes]:
    """Size and root of the log, by the checkpoint that the log and all witnesses signed."""
    text, _, signatures = note.rpartition("\n\n")
    text, lines = text + "\n", signatures.splitlines()
    origin, size, root = text.splitlines()
    key = public_key(log)
    if key[:2] != (origin, 1):
        raise Refused(f"the log is {origin}, the key is that of {key[0]}")
    check_signature(text, lines, key)
    for witness in witnesses:
        check_signature(text, lines, public_key(witness))
    return int(size), base64.b64decode(root, validate=True)


def numbered(record: bytes, number: int) -> dict[str, Any]:
    """The record's members, among them its number."""
    found: dict[str, Any] = json.loads(record, object_pairs_hook=once)
    if found["seq"] != number:
        raise Refused("the record states another number")
    return found


def check_files(files: dict[str, str]) -> None:
    """Every attached file has the digest it is named by."""
    for digest, data in files.items():
        if hashlib.sha256(base64.b64decode(data, validate=True)).hexdigest() != digest:
            raise Refused(f"attached file {digest} has another digest")


def check(proof_file: bytes, log: str, witnesses: list[str]) -> list[dict[str, Any]]:
    """The record, and after a release the decision it rests on, or :class:`Refused`."""
    document = json.loads(proof_file, object_pairs_hook=once)
    if document["schema"] != "attest.audit.proof/1":
        raise Refused(f"schema {document['schema']!r}")
    check_files(document["blobs"])
    found = [check_entry(document, log, witnesses)]
    if "decision" in document:
        found.append(check_entry(document["decision"], log, witnesses))
        if found[0]["body"]["decision"] != found[1]["seq"]:
            raise Refused("the record rests on another decision than the one in the file")
    return found


def check_entry(entry: dict[str, str], log: str, witnesses: list[str]) -> dict[str, Any]:
    """The record, which the log has under its number, or :class:`Refused`."""
    head, _, note = entry["proof"].partition("\n\n")
    size, root = check_note(note, log, witnesses)
    first, index, *path = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
        raise Refused("not a tlog-proof")
    record = entry["record"].encode()
    leaf = hashlib.sha256(b"\0" + record).digest()
    hashes = [base64.b64decode(item, validate=True) for item in path]
    if root_of(leaf, int(index[6:]), size, hashes) != root:
        raise Refused("the record is not in the log")
    return numbered(record, int(index[6:]) + 1)


def check_bundle(bundle: bytes, log: str, witnesses: list[str]) -> list[dict[str, Any]]:
    """All records of a bundle, or :class:`Refused`: blocks that are whole subtrees of the log's tree."""
    lines = iter(bundle.split(b"\n"))
    start, found = json.loads(next(lines), object_pairs_hook=once), []
    if start["schema"] != "attest.audit.bundle/1":
        raise Refused(f"schema {start['schema']!r}")
    size, root = check_note(start["checkpoint"], log, witnesses)
    for line in lines:
        head = json.loads(line or b"{}", object_pairs_hook=once)
        check_files(head.get("shared", {}))
        count, index = head.get("count", 0), head.get("first", 1) - 1
        # Before each record stands a line with files of its own, which have no name to differ from.
        records = [record for _, record in zip(range(2 * count), lines)][1::2]  # noqa: B905  # a cut file is short
        nodes = [hashlib.sha256(b"\0" + record).digest() for record in records]
        if len(records) != count or count & (count - 1) or (count and index % count):
            raise Refused(f"the block of record {index + 1} is not whole")
        found += [numbered(record, number) for number, record in enumerate(records, index + 1)]
        while len(nodes) > 1:
            nodes = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(nodes[::2], nodes[1::2], strict=True)]
        level, path = count.bit_length() - 1, [base64.b64decode(item, validate=True) for item in head.get("path", [])]
        if nodes and root_of(nodes[0], index >> level, ((size - 1) >> level) + 1, path) != root:
            raise Refused(f"the records from {index + 1} on are not in the log")
    if not found:
        raise Refused("a bundle of nothing")
    return found


def main(arguments: list[str]) -> int:
    """0: it holds, and the record is printed; 1: it does not."""
    if len(arguments) < 2:
        sys.stderr.write(__doc__)
        return 2
    try:
        contents = [Path(name).read_bytes() for name in arguments]
        keys = [item.decode() for item in contents[1:]]
        if contents[0].startswith(b'{"checkpoint":'):
            for entry in check_bundle(contents[0], keys[0], keys[1:]):
                sys.stdout.write(json.dumps(entry, separators=(",", ":"), sort_keys=True) + "\n")
            return 0
        records = check(contents[0], keys[0], keys[1:])
    except OSError as exc:
        sys.stderr.write(f"{exc.filename}: cannot be read: {exc.strerror}\n")
        return 2
    except (Refused, ValueError, KeyError, TypeError, AttributeError) as exc:
        sys.stderr.write(f"REFUSED: {exc}\n")
        return 1
    for record in records:
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
