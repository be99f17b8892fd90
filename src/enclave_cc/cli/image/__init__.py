"""`enclave-cc image`: prepare an image so that only attested enclaves can open it; one module per command."""
