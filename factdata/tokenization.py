"""Text → token ids: a tokenizer trained on the project's own text, or any Hugging Face tokenizer.

Names and values are tokenised apart from the text around them, so that their tokens contain nothing else
("1990." is [1990][.], paper App. B.2), and each piece is tokenised once, when a run starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from factdata.biographies import BEGIN, END, Biographies, PieceTable, TokenizedBiographies
from factdata.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_TOKEN = "<|endoftext|>"
# A piece inside a text is tokenised behind one of these, then cut off it. More than one, because a tokenizer may
# merge an anchor's last letter with the piece.
ANCHORS = ("x", "0", ")", "\n", "x\n")
NUM_CHECKED = 64  # biographies decoded and compared with their text before a run starts


def train_tokenizer(biographies: Biographies, vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE on all pieces; at most ``vocab_size`` tokens, the same ones on every machine.

    A space is put before a text (and taken off when decoding), so that a name has the same tokens at the beginning
    of a biography as inside it. There is no padding token (as in GPT-2): a model that knows one checks every batch
    for it, which waits for the device.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = [END_TOKEN]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(specials) + len(alphabet):
        raise InputError(f"vocab_size {vocab_size} is below the {len(specials) + len(alphabet)} that all bytes need")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for text in biographies.strings if text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_TOKEN,
        eos_token=END_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """Any Hugging Face tokenizer by name or path; raises InputError if there is none or it has no end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer at {name_or_path}: {' '.join(str(error).split())[:200]}") from None
    _require_end_token(tokenizer, f"the tokenizer {name_or_path}")
    return tokenizer


def tokenize_biographies(
    biographies: Biographies, tokenizer: PreTrainedTokenizerBase, row_length: int | None = None
) -> TokenizedBiographies:
    """Tokenise every piece once and check that decoding gives back the text exactly."""
    pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    tokens = encode_pieces(biographies, tokenizer)
    rendered = TokenizedBiographies(biographies, tokens, pad_token_id, row_length)
    _check_round_trip(rendered, tokenizer)
    return rendered


def encode_pieces(biographies: Biographies, tokenizer: PreTrainedTokenizerBase) -> PieceTable:
    """Token ids of every piece, each as it reads inside a text, or at its beginning for the initial ones.

    Raises InputError for a piece that does not come back when its tokens are decoded.
    """
    _require_end_token(tokenizer, "the tokenizer")
    ids: list[list[int]] = [[] for _ in biographies.strings]
    wanted = [piece for piece, text in enumerate(biographies.strings) if text]
    for anchor, pieces in [
        ("", sorted(biographies.initial)),
        *((anchor, [piece for piece in wanted if piece not in biographies.initial]) for anchor in ANCHORS),
    ]:
        pieces = [piece for piece in pieces if not ids[piece]]
        anchor_ids = _encode(tokenizer, [anchor])[0] if anchor else []
        texts = [anchor + biographies.strings[piece] for piece in pieces]
        encoded = _encode(tokenizer, texts)
        decoded = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False) if encoded else []
        for piece, text, tokens, back in zip(pieces, texts, encoded, decoded, strict=True):
            if back == text and tokens[: len(anchor_ids)] == anchor_ids:
                ids[piece] = tokens[len(anchor_ids) :]
    missing = [biographies.strings[piece] for piece in wanted if not ids[piece]]
    if missing:
        raise InputError(f"the tokenizer does not give {missing[0]!r} back, or not apart from the text before it")
    ids[BEGIN] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids[END] = [tokenizer.eos_token_id]
    return PieceTable([np.array(tokens, dtype=np.int32) for tokens in ids])


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []


def _require_end_token(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name} has no end token; set its eos_token and save it again")


def _check_round_trip(rendered: TokenizedBiographies, tokenizer: PreTrainedTokenizerBase) -> None:
    words = np.random.Philox(key=0).random_raw(NUM_CHECKED)
    individuals = np.arange(NUM_CHECKED) % rendered.biographies.facts.num_names
    texts = rendered.biographies.texts(rendered.biographies.lay_out(individuals, words)).to_list()
    for row, text in zip(rendered.render(individuals, words).labels, texts, strict=True):
        decoded = tokenizer.decode(row[row >= 0], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if decoded != text:
            at = next((i for i, (a, b) in enumerate(zip(decoded, text, strict=False)) if a != b), len(decoded))
            raise InputError(
                f"the tokenizer does not give a biography back: {decoded[max(at - 20, 0) : at + 20]!r} "
                f"where the text has {text[max(at - 20, 0) : at + 20]!r}"
            )
