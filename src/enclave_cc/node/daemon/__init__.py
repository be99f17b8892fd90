"""
The node daemon: what containerd and the shims need on an untrusted node, in one process.

It keeps containerd from pulling and unpacking layers, caches ciphertext, and tells shims which
image a container was made from. Every answer of it is a hint that the enclaves check.
"""
