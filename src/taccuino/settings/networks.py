"""Networks and addresses, as the settings write them."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["BindAddress", "IPv4Pool", "Network"]


def _pool(text: str) -> str:
    try:
        IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 network such as 10.90.0.0/16") from None
    return text


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no address or network such as 10.0.0.0/8") from None
    return text


def _bind_address(text: str) -> str:
    try:
        return text if text == "*" else str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor '*'") from None


IPv4Pool = Annotated[str, AfterValidator(_pool)]
"""An IPv4 network that smaller ones are cut from."""
Network = Annotated[str, AfterValidator(_network)]
"""An address, or a network of addresses."""
BindAddress = Annotated[str, AfterValidator(_bind_address)]
"""An IP address to listen at; ``*`` is every interface."""
