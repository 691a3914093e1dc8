"""A software SEV-SNP chip, and a software TDX platform, for machines without them: separate processes, as swtpm is for
TPMs.

Each measures what it is given, keeps its own certificate authority, and answers requests over a unix socket that QEMU
connects to a virtio-serial port. What they sign is worth nothing outside: their roots are never among the vendors'
pins, their certificates say so in their organisation, and a verifier trusts them only where a policy names the root.

The emulated TD's registers follow from what the guest's real firmware and kernel extend into a TPM that the emulator
watches; MRTD from the firmware file.
"""
