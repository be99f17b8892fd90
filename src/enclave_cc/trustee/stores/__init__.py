"""Where the relying party keeps things: one port, SQLite behind it."""
