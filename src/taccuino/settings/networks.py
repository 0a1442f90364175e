"""Networks and addresses, as the settings write them."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["BindAddress", "IPv4Pool", "Network"]


def _network(text: str, *, version: int | None = None) -> str:
    try:
        if version in {None, ip_network(text, strict=False).version}:
            return text
    except ValueError:
        pass
    kind = f"IPv{version} network" if version else "address or network"
    raise ValueError(f"{text!r} is no {kind} such as 10.90.0.0/16")


def _bind_address(text: str) -> str:
    try:
        return text if text == "*" else str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor '*'") from None


IPv4Pool = Annotated[str, AfterValidator(partial(_network, version=4))]
"""An IPv4 network that smaller ones are cut from."""
Network = Annotated[str, AfterValidator(_network)]
"""An address, or a network of addresses."""
BindAddress = Annotated[str, AfterValidator(_bind_address)]
"""An IP address to listen at; ``*`` is every interface."""
