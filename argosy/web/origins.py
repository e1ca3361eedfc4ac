"""Decide from a request's `Host` and `Origin` headers whether to answer it.

A foreign page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then share our origin. It cannot
choose the `Host` that the browser sends, which is the foreign name and is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

# An authority without a user: a name, an IPv4 address or a bracketed IPv6 one, and a port. `urlsplit` removes tabs and
# line breaks, so it must not see them.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])(?::\d{0,5})?")


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without a port, is a loopback one."""
    address = _address(host)
    return host.lower().removesuffix(".") == "localhost" if address is None else address.is_loopback


def host_allowed(header: str, open_to_others: bool, names: Collection[str] = ()) -> bool:
    """Return whether to answer a request with this `Host` header; its port may be that of a forwarder.

    With `open_to_others`, addresses are allowed too, because they cannot be rebound, and so are `names`.
    """
    if not _AUTHORITY.fullmatch(header):
        return False
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return is_loopback(host) or (open_to_others and (_address(host) is not None or host in names))


def origin_allowed(origin: str) -> bool:
    """Return whether a page of `origin` may read the artefact: if this machine serves it, as in development."""
    scheme, _, authority = origin.partition("://")
    if scheme not in ("http", "https") or not _AUTHORITY.fullmatch(authority):
        return False
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
