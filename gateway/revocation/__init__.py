"""Certificate revocation lists: verified, compiled, kept fresh, put into words."""
