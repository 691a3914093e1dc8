"""Endorsements: what AMD (later Intel) signed about a chip, walked from a pinned root key to the leaf. Pure."""
