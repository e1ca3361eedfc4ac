"""Decide from a request's `Host` and `Origin` headers whether to answer it.

A foreign page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then share our origin. It cannot
choose the `Host` that the browser sends, which is the foreign name and is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without a port, is a loopback one."""
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def host_allowed(header: str, open_to_others: bool, names: Collection[str] = ()) -> bool:
    """Return whether to answer a request with this `Host` header; its port may be that of a forwarder.

    With `open_to_others`, addresses are allowed too, because they cannot be rebound, and so are `names`.
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if header.strip() != header or any(mark in header for mark in "/?#@\\"):
        return False
    return is_loopback(host) or (open_to_others and (_address(host) is not None or host in names))


def origin_allowed(origin: str) -> bool:
    """Return whether a page of `origin` may read the artefact: if this machine serves it, as in development."""
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
