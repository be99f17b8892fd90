"""The sealed root file system: written by the agent, mounted by the boot program, opaque to the host."""
