"""Keys as people name them: whom to encrypt for, and what to decrypt with."""
