"""What the verbs share: the settings option, who is acting, printing."""

from __future__ import annotations

import errno
import getpass
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from attest.audit.record import Actor
from attest.broker.operations import By
from attest.files import read_at_most
from attest.settings import Settings, load_settings
from attest.store.errors import NotFound
from policy.errors import ConfigInvalid


def add_config(parser: ArgumentParser) -> None:
    """``--config FILE``."""
    parser.add_argument(
        "--config", type=Path, default=Path("attest.toml"), metavar="FILE", help="settings (default: attest.toml)"
    )


def add_json(parser: ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file for bytes that is at ``path`` when the block has ended, flushed to its disk, and not at all where the
    block raised. Raises ConfigInvalid."""
    beside = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as exc:
        raise ConfigInvalid("--output", (f"{path}: {exc.strerror}",)) from None
    finally:
        beside.unlink(missing_ok=True)


def settings_of(args: Namespace) -> Settings:
    """The settings the options name."""
    return load_settings(args.config)


def by_local_user() -> By:
    """Whoever runs this program, now."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return By(Actor("local", name), datetime.now(UTC))


def read_file(path: Path, what: str, limit: int = 1 << 20) -> bytes:
    """A file the user named. Raises NotFound or ConfigInvalid."""
    try:
        return read_at_most(path, limit)
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            raise ConfigInvalid(str(path), (f"more than {limit} bytes",)) from None
        raise NotFound(f"{what} {path}: {exc.strerror}") from None


def print_json(value: object) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_text(*lines: str) -> None:
    """Lines on standard output; what is not printable is shown as an escape, for it may come from a guest."""
    for line in lines:
        sys.stdout.write(safe(line) + "\n")


def print_table(rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell."""
    cells = [[safe(str(cell)) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def print_fields(found: Mapping[str, Any]) -> None:
    """What an answer says, a name and a value on each line; members of members as ``name.member``."""
    print_table(list(_rows(found)))


def _rows(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if isinstance(value, Mapping) and value:
            yield from _rows(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, 1):
                yield from _rows(one, f"{before}{name}.{number}.")
        else:
            for row, line in enumerate(_lines(value)):
                yield "" if row else f"{before}{name}", line


def _lines(value: object) -> list[str]:
    if value is None or value in ([], {}, ""):
        return ["-"]
    if isinstance(value, list):
        return [", ".join(map(str, value))]
    return str(value).splitlines() or ["-"]


def progress(text: str) -> None:
    """A line about what is happening, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def safe(text: str) -> str:
    """``text`` without control characters, so that it cannot drive a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
