"""One layer, from untrusted bytes to a checked tar stream."""
