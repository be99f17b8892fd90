"""OpenPGP messages and keyrings, as far as simple signing needs them."""
