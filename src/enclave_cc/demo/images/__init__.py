"""Real images without Docker: busybox, and a server from Debian's packages."""
