"""What an installed Debian has on its disk as far as a boot looks at it: an ext4 root, a configuration for GRUB.

The configuration has every kind of line that ``grub-mkconfig`` writes, in words of our own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ovmf.guid import efi_guid

LINUX = efi_guid("0fc63daf-8483-4772-8e79-3d69d8477de4")
UUID = "0a1b2c3d-1111-2222-3333-444455556666"
FIRST_CONFIG = f"search.fs_uuid {UUID} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
ENVIRONMENT = b"# GRUB Environment Block\n".ljust(1024, b"#")
CONFIG = (
    """
# the environment block
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${env_block}" ] ; then
  set env_block="(${root})${env_block}"
fi
if [ "${next_entry}" ] ; then
   save_env next_entry
else
   set default="0"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function load_video {
  if [ x$grub_platform = xefi ]; then
    insmod efi_gop
  elif [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod vga; insmod vbe
  fi
}
if [ x$feature_default_font_path = xy ] ; then
   font=unicode
else
   font="/usr/share/grub/unicode.pf2"
fi
if loadfont $font ; then
  set gfxmode=auto
  load_video
  insmod gfxterm
  set locale_dir=$prefix/locale
  set lang=en_US
  insmod gettext
fi
terminal_output gfxterm
if [ "${recordfail}" = 1 ] ; then
  set timeout=30
else
  set timeout_style=menu
  set timeout=1
fi
set menu_color_normal=cyan/blue
set linux_gfx_mode=
export linux_gfx_mode
menuentry 'Debian' --class debian --class os $menuentry_id_option 'simple-UUID' {
	load_video
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_gpt
	insmod ext2
	set root='hd0,gpt2'
	if [ x$feature_platform_search_hint = xy ]; then
		search --no-floppy --fs-uuid --set=root --hint-efi=hd0,gpt2  UUID
	else
		search --no-floppy --fs-uuid --set=root UUID
	fi
	echo	'Loading the kernel ...'
	linux	/boot/vmlinuz root=UUID=UUID ro  console=ttyS0 panic=-1
	initrd	/boot/initrd.img
}
submenu 'More' $menuentry_id_option 'advanced' {
	menuentry 'Debian, recovery' --class os {
		linux /boot/vmlinuz single
	}
}
if [ "$grub_platform" = "efi" ]; then
  insmod bli
fi
if [ "$grub_platform" = "efi" ]; then
	fwsetup --is-supported
	if [ "$?" = 0 ]; then
		menuentry 'Firmware' $menuentry_id_option 'uefi' {
			fwsetup
		}
	fi
fi
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
""".replace("UUID=UUID", f"UUID={UUID}")
    .replace("UUID\n", f"{UUID}\n")
    .replace("-UUID'", f"-{UUID}'")
)


def ext4(folder: Path, files: dict[str, bytes], *options: str, size: str = "4M") -> bytes:
    """A file system with these files, made in ``folder`` by ``mke2fs``."""
    root, image = folder / "root", folder / "root.ext4"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    command = ("mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, *options, "-d", root, image, size)
    subprocess.run(command, check=True, capture_output=True)
    return image.read_bytes()


def installed(kernel: bytes, initrd: bytes, **others: bytes) -> dict[str, bytes]:
    """The files of the root; ``others`` stand in ``boot/grub``."""
    found = {"boot/grub/grub.cfg": CONFIG.encode(), "boot/grub/grubenv": ENVIRONMENT}
    found |= {"boot/vmlinuz": kernel, "boot/initrd.img": initrd}
    return found | {f"boot/grub/{name}": data for name, data in others.items()}
