"""Signing images as cosign does, and asking whether an enclave would accept them."""
