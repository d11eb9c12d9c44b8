"""`python -m gateway` is `tls-gateway`."""

from gateway.cli import main

main()
