"""Encrypted layers as ocicrypt writes them: the cipher, its options, and the wrapped-key packets."""
