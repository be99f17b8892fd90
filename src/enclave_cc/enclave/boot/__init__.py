"""
The app enclave's boot program: one per container, from a measured bundle.

It proves itself to the pod's agent, receives one container's key and launch configuration, mounts the
sealed root file system and starts the workload. It never talks to the broker or the network.
"""
