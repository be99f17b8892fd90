"""The sealed root file system: encrypted chunks, the manifest that holds their keys, and the merged tree."""
