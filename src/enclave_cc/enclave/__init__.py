"""What runs inside a trusted execution environment; every byte from outside is untrusted here."""
