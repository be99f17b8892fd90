"""The node's directory of ciphertext, shared by processes that do not trust each other."""
