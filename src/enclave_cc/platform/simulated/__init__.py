"""A simulated SGX platform: genuine structures and separate identities, under a root of trust of its own.

It has the interfaces, message formats, key separation and policy decisions of SGX, and keeps other users
and containers out with ordinary Linux means. It does not protect against root, the kernel, the hypervisor
or physical access. A simulated quote proves only that the holder of this installation's simulation key
signed it.
"""
