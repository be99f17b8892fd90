"""Evaluation of the owner's signature policy for one image: what the enclave and `image verify` both run."""
