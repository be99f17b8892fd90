"""
The process that serves one root file system: forked from boot while it is small, alone with the keys.

Boot starts it, tells it what to mount, hears from it when a chunk is refused, and notices its end. It
shares boot's mount namespace and nothing else: an interpreter of its own keeps answering the kernel
whatever boot does, and no program is ever started from the process that holds the keys of the blobs.
"""
