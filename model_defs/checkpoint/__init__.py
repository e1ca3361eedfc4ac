"""Reading checkpoints: a path from a stranger goes in, checked tensors under their Hugging Face names come out."""

from argosy.model_defs.checkpoint.base import Blocks, Checkpoint
from argosy.model_defs.checkpoint.locate import open_checkpoint

__all__ = ["Blocks", "Checkpoint", "open_checkpoint"]
