"""Encrypting images, giving the plain ones back, and changing who can open them."""
