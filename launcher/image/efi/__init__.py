"""Boot disks: a unified kernel image in an EFI system partition, byte for byte from its parts."""
