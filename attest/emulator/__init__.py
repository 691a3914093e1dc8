"""A software SEV-SNP chip for machines without one: a separate process, as swtpm is for TPMs.

It measures what it is given, keeps its own certificate authority, and answers report requests over a unix socket that
QEMU connects to a virtio-serial port. What it signs is worth nothing outside: its root is never among AMD's pins, its
certificates say so in their organisation, and a verifier trusts it only where a policy names this very root.
"""
