"""Untrusted node software: it may see ciphertext, sizes, names and timing, and nothing more."""
