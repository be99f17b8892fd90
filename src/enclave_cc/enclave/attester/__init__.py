"""Evidence about the own enclave, in the form a key broker expects."""
