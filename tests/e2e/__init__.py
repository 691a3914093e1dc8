"""Whole-system scenarios: real QEMU, real firmware, real guest, real service; only the chip is emulated."""
