"""The KBS protocol 0.4.0 as bytes: messages, the hash that binds evidence to a handshake, resource URIs."""
