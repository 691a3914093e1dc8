"""What may have been launched instead: recorded recipes and firmware images, single files or folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from launcher.io.hashing import FileUnreadable, read_file
from launcher.io.measurement import firmware_recipe
from policy.errors import CvmError, MalformedInput
from policy.reference import LaunchRecipe, reference_from_bytes

_MOST_FILES = 20_000
_MOST_IMAGES = 64
_IMAGE_SUFFIXES = (".fd", ".bin", ".rom")
_SYSTEM_FOLDERS = ("/usr/share/ovmf", "/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/qemu")


def recipe_in(path: str) -> LaunchRecipe:
    """The recipe of a reference-value file; one without is :class:`MalformedInput`."""
    recipe = reference_from_bytes(read_file(path, "reference", 1 << 20)).recipe
    if not isinstance(recipe, LaunchRecipe):
        raise MalformedInput(f"reference: {path}: has no SEV-SNP recipe, so no launch digest can be explained with it")
    return recipe


def recorded_recipes(paths: Sequence[str]) -> list[LaunchRecipe]:
    """The recipes of files, and of all reference values among the ``*.json`` files of folders."""
    found = []
    for path in paths:
        if Path(path).is_dir():
            found += [recipe for file in _files(path, (".json",), _MOST_FILES) if (recipe := _recipe_or_none(file))]
        else:
            found.append(recipe_in(path))
    return found


def firmware_suspects(reference: LaunchRecipe, names: Sequence[str]) -> list[LaunchRecipe]:
    """``reference`` with each of the images; of a folder, or ``auto``, those that are images."""
    found = []
    for name in names:
        folders = _folders(name)
        if not folders:
            found.append(firmware_recipe(reference, name))
        for folder in folders:
            for file in _files(folder, _IMAGE_SUFFIXES, _MOST_IMAGES):
                try:
                    found.append(firmware_recipe(reference, file))
                except CvmError:  # a variable store, or another machine's firmware
                    continue
    return found


def firmware_files(names: Sequence[str]) -> list[str]:
    """The paths behind ``names``: files, folders of images, ``auto``."""
    found = []
    for name in names:
        folders = _folders(name)
        found += [file for folder in folders for file in _files(folder, _IMAGE_SUFFIXES, _MOST_IMAGES)]
        if not folders:
            found.append(name)
    return found


def _folders(name: str) -> list[str]:
    """The folders ``name`` stands for; none for a file."""
    return _host_folders() if name == "auto" else [name] if Path(name).is_dir() else []


def _recipe_or_none(path: str) -> LaunchRecipe | None:
    try:
        return recipe_in(path)
    except CvmError:  # a folder holds other JSON too
        return None


def _files(folder: str, suffixes: tuple[str, ...], most: int) -> list[str]:
    try:
        files = sorted(str(path) for path in Path(folder).iterdir() if path.suffix in suffixes and path.is_file())
    except OSError as error:
        raise FileUnreadable(f"folder: {folder}: {error.strerror}") from None
    if len(files) > most:
        raise FileUnreadable(f"folder: {folder}: got {len(files)} files, want at most {most}")
    return files


def _host_folders() -> list[str]:
    from launcher.io.toolchain import find_toolchain

    folders = [Path(folder) for folder in _SYSTEM_FOLDERS]
    with suppress(CvmError):  # without QEMU here the system's folders are left
        folders.insert(0, Path(find_toolchain().firmware_dir))
    return list(dict.fromkeys(str(folder.resolve()) for folder in folders if folder.is_dir()))
