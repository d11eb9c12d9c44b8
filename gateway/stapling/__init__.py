"""OCSP responses of the server certificates: verified and kept fresh."""
