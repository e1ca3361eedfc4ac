"""A request's `Host` and `Origin` headers go in, whether this server answers them comes out.

A page of a stranger can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then be of our origin. It
cannot choose the `Host` that the browser sends: that is the stranger's name, and is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without a port, is this machine's own and nobody else's."""
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def host_allowed(header: str, open_to_others: bool, names: Collection[str] = ()) -> bool:
    """Whether a request may say `Host: header`; the port is not looked at, for it may have been forwarded.

    With `open_to_others` addresses are allowed too, which nobody can rebind, and so are `names`.
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if header.strip() != header or any(mark in header for mark in "/?#@\\"):
        return False
    return is_loopback(host) or (open_to_others and (_address(host) is not None or host in names))


def origin_allowed(origin: str) -> bool:
    """Whether a page of `origin` may read the artefact: one that this machine serves itself, as in development."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
