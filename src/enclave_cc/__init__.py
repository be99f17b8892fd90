"""enclave-cc: a process-based confidential container runtime."""

__version__ = "0.1.0"
