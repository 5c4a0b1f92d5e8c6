"""Networks; every file of this folder is found by itself."""

from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.spec import discover

discover(__name__, __path__)

__all__ = ["Network", "NetworkConfig", "Ports"]
