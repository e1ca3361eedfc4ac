"""gemma3: the text half of a checkpoint that also sees images."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families import gemma3_text
from argosy.model_defs.family import Family, Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.support.errors import CheckpointError


def spec(config: Config) -> DecoderSpec:
    """Return the text network of a `Gemma3ForConditionalGeneration` config."""
    text = config.section("text_config")
    if text is None:
        raise CheckpointError("`config.json` lacks `text_config`")
    tied = {"tie_word_embeddings": config.flag("tie_word_embeddings", True)}
    return gemma3_text.spec(Config({"model_type": "gemma3_text", **tied, **text.values}, config.chosen_window))


FAMILY = Family(
    spec,
    {"model_type": "gemma3", "text_config": gemma3_text.TINY},
    Names(
        prefix=(
            ("model.", "model.language_model."),
            ("model.", "language_model.model."),
            ("lm_head.", "language_model.lm_head."),
        ),
        ignored=(
            "vision_tower.*",
            "multi_modal_projector.*",
            "model.vision_tower.*",
            "model.multi_modal_projector.*",
        ),
    ),
    notice="`gemma3` also sees images; its vision tower is left out, this library reads text only",
)
