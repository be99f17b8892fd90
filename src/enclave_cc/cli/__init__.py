"""Argument parsing and printing only; every command calls one plain function elsewhere."""
