"""`python -m gateway` is `tls-gateway`: give OpenSSL its configuration, then run the command line."""

import os
from pathlib import Path


def main() -> None:
    """Run the command line."""
    # Read once, when cryptography loads its OpenSSL: before anything of ours is imported.
    os.environ.setdefault("OPENSSL_CONF", str(Path(__file__).parent / "tls" / "openssl.cnf"))
    from gateway import cli  # noqa: PLC0415 - see above

    cli.main()


if __name__ == "__main__":
    main()
