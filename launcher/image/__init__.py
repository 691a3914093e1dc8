"""The guest image: Debian packages and our agent in, a kernel and a reproducible initrd out. Downloads nothing."""
