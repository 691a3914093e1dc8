"""A QEMU's features as JSON: those shipped with this release, and those remembered of a QEMU that was asked."""

from __future__ import annotations

import os

from launcher.core.qemu_features import FEATURES, Capabilities
from policy import plain_json
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "cvm.qemu-features/1"
SHIPPED = ("9.1", "10.0", "10.1", "10.2", "11.1")
_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "data", "qemu")


class FeaturesMalformed(CvmError):
    """A file of features that is damaged or of another release."""

    code = "qemu.features-malformed"


def shipped(version: str) -> Capabilities:
    """The features of a QEMU that is not here, for planning. ``version`` is one of :data:`SHIPPED`.

    Raises :class:`FeaturesMalformed` for a damaged installation.
    """
    path = f"{_FOLDER}/{version}.json"
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            return from_document(plain_json.loads(file.read()), path)
    except (OSError, ValueError) as exc:
        raise FeaturesMalformed(f"{path}: {exc}", hint="install this release anew") from None


def to_document(known: Capabilities) -> dict[str, object]:
    """As JSON; ``lacks`` says what was asked for and is not there, so that a later release asks again."""
    return {
        "schema": SCHEMA,
        "version": known.version_text,
        "source": known.source,
        "build": known.build,
        "machine": known.machine,
        "features": sorted(known.features),
        "lacks": sorted(set(FEATURES) - known.features),
    }


def from_document(document: Any, where: str) -> Capabilities:
    """The other direction. Raises :class:`FeaturesMalformed`, also when the file answers other questions than this
    release asks.
    """
    try:
        version = tuple(int(part) for part in document["version"].split("."))
        machine, source, build = (document[name] for name in ("machine", "source", "build"))
        features, lacks = frozenset(document["features"]), frozenset(document["lacks"])
        schema = document["schema"]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise FeaturesMalformed(f"{where}: want an object as {SCHEMA} has it") from None
    if schema != SCHEMA or not all(isinstance(text, str) for text in (machine, source, build)):
        raise FeaturesMalformed(f"{where}: schema: got {str(schema)[:40]!r}, want {SCHEMA!r}")
    if features | lacks != FEATURES.keys() or features & lacks:
        raise FeaturesMalformed(f"{where}: answers other questions than this release asks")
    return Capabilities(version, machine, features, source, build)
