"""
From a reference to plain, checked layers, in the enclave and on the owner's machine alike.

Nothing that a registry or the host says is believed here.
"""
