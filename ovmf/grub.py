"""What GRUB measures while it runs its configuration, up to the start of a kernel.

Every command with its words expanded, every file it reads. With Secure Boot on the kernel is measured as an image when
it is loaded, as GRUB asks about it then, otherwise when it is started. Conditions are decided by the disk's contents
and by what is known of this GRUB on UEFI; the menu's default entry is taken, as nobody presses a key. A command,
variable or option that was not watched ends the prediction with its line. Sources: GRUB 2.14
(``grub-core/commands/tpm.c``, ``script/execute.c``, ``normal/menu.c``); logs of boots of Debian's signed build with
``grub-mkconfig``'s configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.ext4 import Ext4Unsupported
from ovmf.grub_disk import GrubDisk, PathUnknown
from ovmf.grub_expression import ExpressionUnknown, decide
from ovmf.grub_script import Command, Function, If, Node, ScriptUnknown, Word, parse_script
from ovmf.td_boot import stub_events
from policy.measured import MeasuredEvent


class LoaderUnknown(Exception):
    """Why the rest of the boot is not predicted."""


Check = Callable[[bytes, str], None]

_MAX_CONFIG = 1 << 18
_MAX_COMMANDS, _MAX_DEPTH, _MAX_CONFIGS = 2000, 16, 4
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_WORD = re.compile(r"[A-Za-z0-9_./=,:+@%-]+")
_NUMBER = re.compile(r"[0-9]{1,3}")
_FEATURES = ("menuentry_id", "default_font_path", "timeout_style", "all_video_module", "platform_search_hint")
_UNSET = ("env_block", "next_entry", "prev_saved_entry", "saved_entry", "boot_once", "recordfail")
"""Variables nobody but a configuration or its environment block sets."""
_SETTABLE = (
    "root", "prefix", "timeout", "timeout_style", "default", "have_grubenv", "menuentry_id_option", "font", "gfxmode",
    "menu_color_normal", "menu_color_highlight", "linux_gfx_mode", "gfxpayload", "locale_dir", "lang",
)  # fmt: skip
_TRANSLATIONS = (".mo", ".mo.gz", ".gmo")
_BUILT_IN = ("efi_gop", "gfxterm", "gzio", "part_gpt", "ext2", "bli", "gettext")
"""Modules in the signed image: no file is read for them."""


class _Entry(NamedTuple):
    """``body``: ``None`` for a submenu."""

    title: str
    body: tuple[Node, ...] | None


def grub_events(config: bytes, path: str, disk: GrubDisk, check: Check | None) -> list[MeasuredEvent]:
    """Everything from the first configuration (at ``path`` of the EFI system partition) to the kernel's own events.

    ``check`` is called with every image that is started and its path; ``None``: Secure Boot is off. Raises
    :class:`LoaderUnknown`, what ``check`` raises and `ovmf.errors.DiskMalformed`.
    """
    run = _Grub(disk, path, check)
    try:
        # GRUB opens this file twice: to see that it is there, and to read it.
        run.found += [make.event(2, make.IPL, config, "ipl:file", f"({disk.system})/{path}")] * 2
        run.script(config)
        run.menu()
    except (ScriptUnknown, ExpressionUnknown, PathUnknown, Ext4Unsupported) as reason:
        raise LoaderUnknown(f"{run.config}: {reason}") from None
    return run.found


class _Booted(Exception):
    """The kernel has been started."""


class _Grub:
    def __init__(self, disk: GrubDisk, path: str, check: Check | None) -> None:
        self.found: list[MeasuredEvent] = []
        self.config = path
        self._disk, self._check = disk, check
        self._variables = {f"feature_{name}": "y" for name in _FEATURES} | {"grub_platform": "efi", "?": "0"}
        self._variables |= {"root": disk.system, "prefix": f"({disk.system})/{path.rpartition('/')[0]}"}
        self._functions: dict[str, tuple[Node, ...]] = {}
        self._entries: list[_Entry] = []
        self._commands = self._configs = 0
        self._options: bytes | None = None
        self._initrd: bytes | None = None
        self._image: MeasuredEvent | None = None
        self._booted = False

    def script(self, config: bytes) -> None:
        """Run a configuration."""
        if len(config) > _MAX_CONFIG or b"\0" in config:
            raise LoaderUnknown(f"{self.config}: {len(config)} bytes, want at most {_MAX_CONFIG} without NUL")
        try:
            self._nodes(parse_script(config.decode("latin-1")), 0)
        except _Booted:
            self._booted = True

    def menu(self) -> None:
        """Take the default entry, unless a kernel has been started already."""
        if self._booted:
            return
        chosen, timeout = self._variables.get("default", "0"), self._variables.get("timeout", "")
        if not _NUMBER.fullmatch(chosen) or not timeout.isdecimal() or int(chosen) >= len(self._entries):
            raise LoaderUnknown(f"{self.config}: no entry is chosen without somebody (default {_shown(chosen)!r})")
        entry = self._entries[int(chosen)]
        if entry.body is None:
            raise LoaderUnknown(f"{self.config}: the default entry is a submenu")
        self._measure(f"setparams {entry.title}")
        try:
            self._nodes(entry.body, 0)
            self._boot()
        except _Booted:
            self._booted = True

    def _nodes(self, nodes: tuple[Node, ...], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ScriptUnknown("functions or conditions too deep")
        for node in nodes:
            if isinstance(node, Function):
                self._functions[node.name] = node.body
            elif isinstance(node, If):
                self._if(node, depth)
            else:
                self._command(node, depth)

    def _if(self, node: If, depth: int) -> None:
        for condition, body in node.branches:
            self._nodes(condition, depth + 1)
            if self._variables["?"] == "0":
                self._nodes(body, depth + 1)
                return
        self._nodes(node.otherwise, depth + 1)

    def _command(self, command: Command, depth: int) -> None:
        self._commands += 1
        words = [text for word in command.words for text in self._expanded(word)]
        if not words or self._commands > _MAX_COMMANDS:
            raise ScriptUnknown(f"{self._commands} commands, or one without words")
        self._measure(" ".join([*words, *([command.source] if command.block is not None else [])]))
        if words[0] in self._functions:
            self._nodes(self._functions[words[0]], depth + 1)
            return
        known = self._carry_out(words, command.block)
        if known is None:
            raise ScriptUnknown(f"the line {_shown(' '.join(words))!r}")
        self._variables["?"] = "0" if known else "1"

    def _expanded(self, word: Word) -> list[str]:
        """The word's text; nothing for one of unquoted, empty variables."""
        text, there = "", False
        for piece in word:
            value = self._value(piece.text) if piece.variable else piece.text
            if piece.variable and not piece.quoted and len(value.split()) != (1 if value else 0):
                raise ScriptUnknown(f"the variable {piece.text} holds several words")
            text += value
            there = there or piece.quoted or bool(value)
        return [text] if there else []

    def _value(self, name: str) -> str:
        if name not in self._variables and name not in _UNSET:
            raise ScriptUnknown(f"the variable {name}")
        return self._variables.get(name, "")

    def _measure(self, text: str) -> None:
        """GRUB's line without its label and without a NUL is hashed."""
        self.found.append(make.event(2, make.IPL, text.encode("latin-1"), "ipl:grub_cmd", text))

    def _carry_out(self, words: list[str], block: tuple[Node, ...] | None) -> bool | None:
        """Whether the command succeeded; ``None`` for one whose effect is not known."""
        match words:
            case ["menuentry" | "submenu", title, *rest] if block is not None and _plain_options(rest):
                self._entries.append(_Entry(title, block if words[0] == "menuentry" else None))
                return True
            case ["[", *operands, "]"]:
                return decide(operands, self._size, self._exists)
            case ["set", assignment]:
                return self._set(assignment)
            case [assignment] if _ASSIGNMENT.match(assignment):
                return self._set(assignment)
            case ["search.fs_uuid", uuid, "root", *_]:
                return self._search(uuid)
            case ["search", "--no-floppy", "--fs-uuid", "--set=root", *hints, uuid] if all(map(_is_hint, hints)):
                return self._search(uuid)
            case ["insmod", module] if module in _BUILT_IN:
                return True
            case ["export", _] | ["echo", *_] | ["terminal_output", "gfxterm"] | ["fwsetup", "--is-supported"]:
                return True
            case ["loadfont", "unicode"]:  # in the signed image
                return True
            case _:
                return self._with_files(words)

    def _with_files(self, words: list[str]) -> bool | None:
        match words:
            case ["configfile", path]:
                return self._configfile(path)
            case ["load_env"]:
                return self._load_env()
            case ["linux", path, *arguments] if path.startswith("/") and "=" not in path:
                return self._linux(path, arguments)
            case ["initrd", path] if path.startswith("/"):
                return self._load_initrd(path)
            case ["boot"]:
                self._boot()
        return None

    def _set(self, assignment: str) -> bool | None:
        name, equals, value = assignment.partition("=")
        if not equals or name not in (*_SETTABLE, *_UNSET):
            return None
        if (name == "root" and value not in self._disk.volumes) or (name == "lang" and self._translated(value)):
            return None
        self._variables[name] = value
        return True

    def _translated(self, lang: str) -> bool:
        """GRUB would read a file with translations, or might."""
        folder = self._variables.get("locale_dir", "")
        names = (f"{folder}/{stem}{end}" for stem in (lang, lang.partition("_")[0]) for end in _TRANSLATIONS)
        return _WORD.fullmatch(lang) is None or any(map(self._exists, names))

    def _search(self, uuid: str) -> bool | None:
        device = self._disk.with_uuid(uuid)
        if device is None:
            return None
        self._variables["root"] = device
        return True

    def _configfile(self, path: str) -> bool | None:
        self._configs += 1
        config = self._read(path)
        if config is None or self._entries or self._configs > _MAX_CONFIGS:
            return None
        self.config = _shown(path)
        kept = ("root", "prefix", "grub_platform", "?", *(f"feature_{name}" for name in _FEATURES))
        self._variables = {name: self._variables[name] for name in kept}
        self._variables["config_directory"] = path.rpartition("/")[0]
        self.script(config)
        self.menu()
        raise _Booted

    def _load_env(self) -> bool | None:
        """{``# GRUB Environment Block``, lines name=value, #…}; only a block that sets nothing was watched."""
        data = self._read(f"{self._variables['prefix']}/grubenv")
        if data is None or not data.startswith(b"# GRUB Environment Block\n"):
            return None
        lines = [line for line in data.split(b"\n")[1:] if line and not line.startswith(b"#")]
        return None if lines else True

    def _linux(self, path: str, arguments: list[str]) -> bool | None:
        if self._options is not None or not all(_WORD.fullmatch(word) for word in (path, *arguments)):
            return None
        data = self._read(path)
        if data is None:
            raise LoaderUnknown(f"{path} is not on {self._variables['root']}")
        line = " ".join((path, *arguments))
        self._image = make.application(data, path)
        if self._check is not None:
            self._check(data, path)
            self.found.append(self._image)
        self.found.append(make.event(2, make.IPL, line.encode("ascii"), "ipl:kernel_cmdline", line))
        self._options = f"BOOT_IMAGE={line}\0".encode("utf-16-le")
        return True

    def _load_initrd(self, path: str) -> bool | None:
        if self._options is None:
            return None
        data = self._read(path)
        if data is None:
            raise LoaderUnknown(f"{_shown(path)} is not on {self._variables['root']}")
        if len(data) % 4:
            raise LoaderUnknown(f"GRUB pads {_shown(path)}, of {len(data)} bytes")
        self._initrd = self.found[-1].digest
        return True

    def _boot(self) -> None:
        if self._options is None:
            raise ScriptUnknown("a boot before a kernel was loaded")
        if self._check is None and self._image is not None:
            self.found.append(self._image)
        self.found += stub_events(self._options, self._initrd)
        raise _Booted

    def _read(self, path: str) -> bytes | None:
        """A file, which is measured if it is there."""
        data = self._disk.read(path, self._variables["root"])
        if data is not None:
            self.found.append(make.event(2, make.IPL, data, "ipl:file", path))
        return data

    def _size(self, path: str) -> int:
        """For a test of the size GRUB opens the file, and so measures it."""
        return len(self._read(path) or b"")

    def _exists(self, path: str) -> bool:
        return self._disk.holds(path, self._variables["root"])


def _shown(text: str) -> str:
    return make.printable(text[:80])


def _is_hint(word: str) -> bool:
    return word.startswith("--hint")


def _plain_options(words: list[str]) -> bool:
    """Nothing but ``--class NAME`` and ``--id NAME``."""
    return len(words) % 2 == 0 and all(word in ("--class", "--id") for word in words[::2])
