"""What container tools write about registries: mirrors and blocks, short names, proxies, credentials."""
