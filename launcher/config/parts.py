"""The tables of a VM file, one function each. Problems go into the table; a wrong value becomes a harmless stand-in."""

from __future__ import annotations

from launcher.config.paths import optional_path as _optional_path
from launcher.config.paths import path as _path
from launcher.core.vm import (
    LAUNCH_RECORDS,
    POLICY_SWITCHES,
    Attestation,
    Boot,
    Cpu,
    Guest,
    Secret,
    SnpSettings,
)
from policy.late import fullmatch
from policy.table import Table
from policy.vocab import Platform

MAX_VCPUS = 4096
HOST_MODEL = "host"
"""The CPU model of every TD."""
_MODEL = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_SERVICE = r"https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?/?"
APIS = ("resource", "token", "evidence")
"""What the agent can serve inside the guest."""
_SHA256 = "64 lower-case hexadecimal digits"
_PIN = r"[A-Za-z0-9_-]{43}"
_SECRET_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"  # noqa: S105  a pattern
_RUN = r"(?:/[A-Za-z0-9._+@-]+)+"


def cpu(table: Table | None, platform: Platform) -> Cpu:
    """``[cpu]``"""
    default = Cpu(model=HOST_MODEL) if platform is Platform.TDX else Cpu()
    if table is None:
        return default
    count = table.value("count", int, 1) or 0
    if not 1 <= count <= MAX_VCPUS:
        table.problem("count", f"got {count}, want 1 to {MAX_VCPUS}")
    model = table.value("model", str, default.model) or ""
    if platform is Platform.TDX and model != HOST_MODEL:
        table.problem("model", f'got {model[:80]!r}, want "host": QEMU starts a TD with no named CPU model')
    elif model != default.model and not fullmatch(_MODEL, model):
        table.problem("model", f"got {model[:80]!r}, want a QEMU CPU model such as EPYC-v4")
    elif model in (HOST_MODEL, "max") and platform not in (Platform.TDX, Platform.NONE):
        table.problem(
            "model", f'"{model}" makes the launch digest depend on the host, want a named model such as EPYC-v4'
        )
    from launcher.config.hardware_parts import features, shape  # one vCPU has no shape

    sockets, threads = shape(table, count)
    chosen = features(table)
    table.finish()
    return Cpu(count, model, sockets, threads, chosen)


def boot(table: Table | None) -> Boot | None:
    """``[boot]``"""
    if table is None:
        return None
    cmdline = table.value("cmdline", str, "") or ""
    if not all(" " <= char <= "~" for char in cmdline):
        table.problem("cmdline", "want printable ASCII on one line")
    if any(word.lstrip('"').startswith("cvm.") for word in cmdline.split()):
        table.problem(
            "cmdline", "words that begin with cvm. are reserved: cvm writes them from this file's other tables"
        )
    if cmdline.count('"') % 2:
        table.problem("cmdline", "a double quote is never closed")
    pinned = table.value("firmware_sha256", str, want=_SHA256) if table.has("firmware_sha256") else None
    if pinned is not None and (len(pinned) != 64 or pinned.strip("0123456789abcdef")):
        table.problem("firmware_sha256", f"got {pinned[:80]!r}, want {_SHA256}")
    parsed = Boot(
        firmware=_path(table, "firmware", "auto") or "auto",
        kernel=_optional_path(table, "kernel"),
        initrd=_optional_path(table, "initrd"),
        cmdline=cmdline,
        firmware_sha256=pinned,
    )
    table.finish()
    return parsed


def attestation(table: Table | None) -> Attestation | None:
    """``[attestation]``"""
    if table is None:
        return None
    service = table.value("service", str, want="an https URL") or ""
    match = fullmatch(_SERVICE, service)
    if service and (match is None or not 0 < int(match[1] or "443") < 65536):
        table.problem("service", f"got {service[:80]!r}, want https://host or https://host:port")
    ca = _path(table, "ca", None) or ""
    pins = table.strings("pins", ())
    if len(pins) > 4 or not all(fullmatch(_PIN, pin) for pin in pins):
        table.problem("pins", "want at most 4 thumbprints of 43 characters (answer.pin of the service)")
    launch_record = table.choice("launch_record", LAUNCH_RECORDS, "send") or "send"
    table.finish()
    return Attestation(service.rstrip("/"), ca, pins, launch_record)


def guest(table: Table | None) -> Guest | None:
    """``[guest]``"""
    if table is None:
        return None
    from launcher.config.guest_parts import swiotlb

    run = table.value("run", str) if table.has("run") else None
    if run is not None and (not fullmatch(_RUN, run) or any(set(part) == {"."} for part in run.split("/")[1:])):
        table.problem("run", f"got {run[:80]!r}, want an absolute path without '.' and '..'")
    poweroff = table.value("poweroff", bool, default=False) or False
    api = table.strings("api", ())
    if not set(api) <= set(APIS) or len(set(api)) != len(api):
        table.problem("api", f"got {', '.join(api)[:80]!r}, want some of {', '.join(APIS)}")
    reattest = table.value("reattest", int, default=0) or 0
    if reattest and not 10 <= reattest <= 86400:
        table.problem("reattest", f"got {reattest}, want 10 to 86400 seconds, or 0")
    secrets = tuple(_secret(item) for item in table.tables("secret")) if table.has("secret") else ()
    if len({item.name for item in secrets}) != len(secrets):
        table.problem("secret", "two secrets have one name")
    parsed = Guest(
        run,
        poweroff,
        api,
        reattest,
        secrets,
        swiotlb=swiotlb(table),
        console=table.value("console", bool, True) is True,
    )
    table.finish()
    return parsed


def _secret(table: Table) -> Secret:
    """``[[guest.secret]]``"""
    name = table.value("name", str) or ""
    if name and not fullmatch(_SECRET_NAME, name):
        table.problem("name", f"got {name[:80]!r}, want a file name of letters, digits and . _ -")
    mode = table.value("mode", str, "0400") or ""
    if not fullmatch(r"0[0-7]{3}", mode):
        table.problem("mode", f'got {mode[:20]!r}, want four octal digits such as "0400"')
        mode = "0400"
    uid, gid = (table.value(key, int, default=0) or 0 for key in ("uid", "gid"))
    if not (0 <= uid < 10**9 and 0 <= gid < 10**9):
        table.problem("uid", "want user and group numbers from 0")
    from launcher.config.disk_parts import resource  # a key of a disk is named as a secret is

    parsed = Secret(name, resource(table) or "", uid, gid, int(mode, 8))
    table.finish()
    return parsed


def snp(table: Table | None) -> SnpSettings | None:
    """``[snp]``"""
    if table is None:
        return None
    default = SnpSettings()
    switches = {name: table.value(name, bool, getattr(default, name)) or False for name in POLICY_SWITCHES}
    abi = [_octet(part) for part in (table.value("abi_min", str, "0.0") or "").split(".")]
    abi_min = (abi[0], abi[-1])
    if len(abi) != 2 or max(abi) > 255:
        table.problem("abi_min", 'want a firmware ABI version such as "1.51"')
    host_data = table.value("host_data", str, "00" * 32) or ""
    if len(host_data) != 64 or host_data.strip("0123456789abcdef"):
        table.problem("host_data", "want 64 lower-case hexadecimal digits (32 bytes)")
        host_data = ""
    features = table.value("guest_features", int, default.guest_features) or 0
    if not 0 < features < 1 << 63 or not features & 1:
        table.problem("guest_features", f"got {features:#x}, want SEV_FEATURES with bit 0 (SNP active)")
    block, auth = (_path(table, name, None) if table.has(name) else None for name in ("id_block", "id_auth"))
    if (block is None) != (auth is None):
        table.problem("id_auth" if auth is None else "id_block", "id_block and id_auth come together")
    vcek_disabled = table.value("vcek_disabled", bool, default=False) or False
    table.finish()
    return SnpSettings(
        **switches,
        abi_min=abi_min,
        host_data=bytes.fromhex(host_data),
        guest_features=features,
        id_block=block,
        id_auth=auth,
        vcek_disabled=vcek_disabled,
    )


def _octet(digits: str) -> int:
    """More than 255 for what is no decimal number of one to three digits."""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 3 else 256


def emulator(table: Table | None) -> str | None:
    """``[emulator]``: the folder of the emulated chip's keys."""
    if table is None:
        return None
    path = _path(table, "state", None)
    table.finish()
    return path
