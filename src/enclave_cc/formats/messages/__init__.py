"""The messages that our own processes exchange over ttrpc, one module per service."""
