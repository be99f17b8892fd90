"""
ocicrypt's key providers, on the owner's machine: programs and gRPC servers that wrap and unwrap layer keys.

Never in an enclave: docs/adr/0008-key-providers-stay-outside-of-enclaves.md.
"""
