"""Read Hugging Face directories and GGUF files through one interface, checking everything they claim."""

from argosy.model_defs.checkpoint.base import Blocks, Checkpoint
from argosy.model_defs.checkpoint.locate import open_checkpoint

__all__ = ["Blocks", "Checkpoint", "open_checkpoint"]
