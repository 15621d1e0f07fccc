"""Can a model be looked at at all? It has to be a decoder: it reads tokens that its tokenizer writes, and never a later one.

Mental model. Everything here is said of a state and the tokens before it. The library's "causal" models are not all causal
(BERT's has a head for it, PaliGemma reads its prompt both ways), and a wrapper around a decoder may do more than run
it. So both are tried once, on a few ids, whenever a model is loaded; what fails is refused in a sentence.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cr_interp.configuration import brief
from cr_interp.errors import UserError
from cr_interp.models.forward import backbone, check_head, device_of, embedded, unwrap
from cr_interp.models.weights import first_few


def check_decoder(model: nn.Module) -> None:
    """Refuse a model that does not continue text by backbone and LM head, or whose states depend on later tokens."""
    if unwrap(model).config.is_encoder_decoder:
        raise UserError(
            f"{type(unwrap(model)).__name__} has an encoder: its prompt is not read by the decoder whose states are looked at "
            f"here. Give a model that continues text by itself."
        )
    check_head(model)
    check_causal(model)


@torch.no_grad()
def check_causal(model: nn.Module, known: int = 3) -> None:
    """Refuse a model whose states at the first ``known`` tokens change with what follows, as without any mask."""
    rows = embedded(model)
    ids = (torch.arange(2, 8, device=device_of(model)) % rows)[None]
    other = ids.clone()
    other[:, known:] = (ids[:, known:] + 1 + rows // 2) % rows
    one, two = (backbone(model)(input_ids=each).last_hidden_state[:, :known].float() for each in (ids, other))
    if not bool(torch.isfinite(one).all()):
        return  # a diverged checkpoint, which whoever decodes or captures with it will say
    changed = ((one - two).norm() / one.norm()).item()
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 2e-2
    if changed > tolerance:
        raise UserError(
            f"{type(unwrap(model)).__name__} reads tokens that come later (the states of the first {known} tokens change by "
            f"{changed:.1e} with the next ones), so nothing said here of a state and what is before it would hold. Give a "
            f"causal model."
        )


def check_ends(where: Path | str, model: nn.Module) -> None:
    """Refuse ids that end an answer and are none: an answer would never end, or whoever decodes it would."""
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    for each in told if isinstance(told, list | tuple) else [] if told is None else [told]:
        if isinstance(each, bool) or not isinstance(each, int) or not -1 <= each < 2**31:
            raise UserError(
                f"The model {where} ends its answers with {brief(each)} (eos_token_id of generation_config.json or config.json), "
                f"which is no token's id. Save the model again, or write the right number there."
            )


def check_vocabulary(where: Path | str, model: nn.Module, tokenizer: Any) -> None:
    """Refuse a tokenizer whose ids the model has no rows for: words, what its template writes, what ends a turn.

    A few special tokens more (Gemma-3's for images) are no harm while nothing writes them.
    """
    rows = embedded(model)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    template = str(tokenizer.chat_template or "")
    ends = (tokenizer.eos_token, tokenizer.bos_token)
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows)
    used = [
        token
        for i, token in beyond
        if i not in added or not added[i].special or token in template or token in ends
    ]
    if used:
        raise UserError(
            f"The tokenizer of {where} has {len(used)} tokens beyond the model's {rows} rows ({first_few(used)}), so it is "
            f"another model's, or the model was not resized for it (resize_token_embeddings). Give the tokenizer it was "
            f"trained with."
        )
