"""TLS: contexts, handshakes, and the one door to cryptography's OpenSSL."""
