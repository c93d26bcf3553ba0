"""Whether a service at HOST:PORT is ready, by HTTP or HTTPS; exit code 0 or 1. For the image's HEALTHCHECK."""

from __future__ import annotations

import http.client
import ssl
import sys


def is_ready(place: str) -> bool:
    """The certificate is not looked at: it is this machine's own service, and no secret is sent to it."""
    unlooked = ssl.create_default_context()
    unlooked.check_hostname, unlooked.verify_mode = False, ssl.CERT_NONE
    for connection in (
        http.client.HTTPConnection(place, timeout=2),
        http.client.HTTPSConnection(place, timeout=2, context=unlooked),
    ):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            continue  # it may speak the other one
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(not is_ready(sys.argv[1]))
