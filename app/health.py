"""`python -m app.health [URL]`: a container's health check, by its exit code and one line.

Beside the command line, which takes a second of a processor to import: a health check runs every
few seconds for as long as the container lives.
"""

import http.client
import sys
import urllib.error
import urllib.request

DEFAULT_URL = "http://127.0.0.1:8080/healthz"
ANSWER_SECONDS = 3.0  # below the 5 s after which the image's check is given up


def main(arguments: list[str]) -> int:
    """0 where the URL answers 200, else 1; 2 for arguments that cannot be used."""
    if len(arguments) > 1:
        sys.stderr.write("error: give one URL, or none for " + DEFAULT_URL + "\n")
        return 2
    url = arguments[0] if arguments else DEFAULT_URL
    if not url.startswith("http://"):
        sys.stderr.write(f"error: {url} is not an http:// URL\n")
        return 2
    fault = fault_of(url)
    if fault is not None:
        sys.stderr.write(f"{url}: {fault}\n")
        return 1
    return 0


def fault_of(url: str) -> str | None:
    """None where it is well. Asks no proxy, whatever the environment names."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=ANSWER_SECONDS) as response:
            return None if response.status == 200 else f"status {response.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
