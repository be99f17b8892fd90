"""Drivers for trusted execution environments, behind one port."""
