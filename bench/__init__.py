"""Measurements of the gateway beside its peers; see README.md. Nothing here is part of the gateway."""
