"""
The containerd shim: one small process per pod, started for every pod of a node.

Its start is on the path of every container, so it runs under ``python -I -S`` on a handful of
standard modules and hand-written protobuf. It is host software: it carries requests and
processes around, sees no key and decides nothing about trust.
"""
