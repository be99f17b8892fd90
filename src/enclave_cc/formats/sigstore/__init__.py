"""Signatures as cosign writes them, and the certificates and logs that vouch for them without a key."""
