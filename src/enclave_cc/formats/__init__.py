"""Byte formats and protocol messages, sans IO: bytes in, values out, nothing else touched."""
