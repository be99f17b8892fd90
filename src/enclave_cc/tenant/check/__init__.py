"""Will this image run in an enclave? What can be told before anybody tries."""
