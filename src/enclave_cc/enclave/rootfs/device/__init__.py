"""The app enclave's view of a sealed image: one run of bytes, none of which was not sealed."""
