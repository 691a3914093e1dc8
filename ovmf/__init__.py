"""Firmware and kernel bytes to expected measurement. Pure."""
