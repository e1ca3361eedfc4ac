"""Choose the module that computes a network."""

from __future__ import annotations

from collections.abc import Callable

from argosy.model_defs.components.modules import Storage
from argosy.model_defs.networks.decoder import Decoder
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.networks.network import Network, NetworkModule

NETWORKS: dict[type, Callable[..., NetworkModule]] = {DecoderSpec: Decoder}


def build_module(network: Network, storage: Storage) -> NetworkModule:
    """Build the module that computes `network`, with its parameters stored as `storage` says."""
    return NETWORKS[type(network)](network, storage)
