"""JOSE as this project needs it: three key types, one signature algorithm, two ways to wrap a key."""
