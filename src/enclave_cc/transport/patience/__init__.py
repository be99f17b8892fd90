"""How long to wait, when to try again, and how somebody else ends the wait."""
