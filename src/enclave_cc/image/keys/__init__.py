"""Where the key of a layer comes from."""
