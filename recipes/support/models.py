"""Models from scratch by family, or existing ones by path."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from factdata.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from recipes.support.arguments import ModelArguments

VOCAB_MULTIPLE = 64  # embedding rows are rounded up to this: matrix units like it, and the spare rows are never used

# What a family calls the MLP width, and what it needs besides: no dropout, as many key-value heads as heads, and one
# hidden layer in the MLP where the family leaves the choice (paper App. B.3).
FAMILIES: dict[str, Any] = {
    "gpt2": lambda m, mlp: dict(n_inner=mlp, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt_neox": lambda m, mlp: dict(intermediate_size=mlp, tie_word_embeddings=True),
    "arcee": lambda m, mlp: dict(
        intermediate_size=mlp, num_key_value_heads=m.num_heads, hidden_act="gelu", tie_word_embeddings=True
    ),
    "llama": lambda m, mlp: dict(intermediate_size=mlp, num_key_value_heads=m.num_heads, tie_word_embeddings=True),
    # Every block recurrent: the paper's Hawk ablation (App. C). The family halves intermediate_size by itself.
    "recurrent_gemma": lambda m, mlp: dict(
        intermediate_size=2 * mlp, num_key_value_heads=m.num_heads, block_types=["recurrent"], lru_width=m.hidden_size
    ),
}


def build_model(
    arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase, row_length: int, *, empty: bool = False
) -> PreTrainedModel:
    """A causal LM whose output has a logit for every token of the tokenizer.

    ``empty`` builds a new model without memory for its parameters, to count them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if arguments.model_name_or_path is not None:
        model = _load(arguments, tokenizer)
    else:
        config = _family_config(arguments, tokenizer, row_length)
        with torch.device("meta") if empty else contextlib.nullcontext():
            model = AutoModelForCausalLM.from_config(config, attn_implementation=arguments.attn_implementation)
    # The ordinary next-token loss. The library does not tell it from every class name, and warns before it takes it.
    model.loss_type = "ForCausalLM"
    return model


def _load(arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        # fp32 weights whatever the checkpoint holds: AdamW on bf16 weights loses most updates at small rates.
        model = AutoModelForCausalLM.from_pretrained(
            arguments.model_name_or_path,
            dtype="float32",
            attn_implementation=arguments.attn_implementation,
            **(arguments.model_overrides or {}),
        )
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no causal LM at {arguments.model_name_or_path}: {reason}") from None
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens, {arguments.model_name_or_path} only "
            f"{model.get_input_embeddings().num_embeddings} embeddings: it is not this model's tokenizer"
        )
    return model


def _family_config(arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase, row_length: int) -> Any:
    from transformers import AutoConfig

    if arguments.hidden_size % arguments.num_heads:
        raise InputError(f"hidden_size {arguments.hidden_size} is not divisible by {arguments.num_heads} heads")
    vocab_size = max(arguments.vocab_size, len(tokenizer))
    common = dict(
        vocab_size=-(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE,
        hidden_size=arguments.hidden_size,
        num_hidden_layers=arguments.num_layers,
        num_attention_heads=arguments.num_heads,
        max_position_embeddings=row_length,
        # The libraries' 0.02 is made for widths of 768 and more; narrow models learn hundreds of steps later with it.
        initializer_range=arguments.initializer_range or 1 / math.sqrt(arguments.hidden_size),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    mlp = arguments.intermediate_size or 4 * arguments.hidden_size
    settings = common | FAMILIES[arguments.model_family](arguments, mlp)
    config = AutoConfig.for_model(arguments.model_family, **settings)
    for key, value in (arguments.model_overrides or {}).items():
        if not hasattr(config, key):
            raise InputError(f"model_overrides: {arguments.model_family} has no config field {key!r}")
        setattr(config, key, value)
    return config
