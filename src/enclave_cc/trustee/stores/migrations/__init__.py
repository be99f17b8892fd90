"""Numbered SQL files; each runs once, in order, in a transaction of its own."""
