"""Where what the workload writes is kept while it runs: in memory, or encrypted on the host's disk."""
