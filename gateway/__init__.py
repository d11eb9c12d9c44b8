"""A TLS front door for brokers: revocation enforced, OCSP stapled, broker and clients unchanged."""

__version__ = "0.1.0"
