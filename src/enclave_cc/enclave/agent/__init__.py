"""
The agent enclave: one per pod, the only one the broker trusts with image keys.

It pulls, verifies and seals images for the pod's containers and hands each container's key to the one
app enclave that proves to be its own. It never runs a workload and never listens beyond the pod's socket.
"""
