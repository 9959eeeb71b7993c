"""Tokenization: the trained tokenizer, and other people's, built here in the likeness of well-known ones."""

import json

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from factdata.biographies import FIRST_VALUE, NAME
from factdata.errors import InputError
from factdata.tokenization import load_tokenizer, tokenize_biographies, train_tokenizer

INDIVIDUALS = np.random.default_rng(1).integers(0, 60_000, size=100)
WORDS = np.random.Philox(key=21).random_raw(100)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
BYTE_LEVEL = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "single digits": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "Llama 3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), BYTES]),
    "punctuation glued to words": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated"), BYTES]),
}
SENTENCE_PIECE = ("first", "always", "never", "Llama 2")
LOSSY = ("words", "lower case", "no accents")


def wrap(tokenizer: Tokenizer, **special_tokens: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", clean_up_tokenization_spaces=False, **special_tokens
    )


def byte_level(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one of the usual ways to cut a text first; no begin token, no padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = BYTE_LEVEL[kind], decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap(tokenizer)


def sentence_piece(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """BPE as SentencePiece makes it: ▁ for a space, one put before a text or not, rare letters as bytes."""
    special_tokens = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special_tokens, show_progress=False)
    trained.train_from_iterator([text.encode("ascii", "ignore").decode() for text in texts], trainer)
    model = json.loads(trained.to_str())["model"]
    for byte in range(256):
        model["vocab"][f"<0x{byte:02X}>"] = len(model["vocab"])
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "Llama 2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts[:3] if kind == "never" else parts)
    tokenizer.add_special_tokens(special_tokens)
    return wrap(tokenizer, bos_token="<s>", unk_token="<unk>")


def lossy(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """Tokenizers that forget something of every text."""
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return wrap(tokenizer, unk_token="<unk>")
    wrapped = byte_level("GPT-2", texts)
    strip = [normalizers.NFD(), normalizers.StripAccents()]
    wrapped.backend_tokenizer.normalizer = normalizers.Sequence(
        strip if kind == "no accents" else [normalizers.Lowercase()]
    )
    return wrapped


@pytest.fixture(scope="module")
def corpus(biographies) -> list[str]:
    """Pieces, and whole texts too, so that tokens over the borders of pieces are there to be fallen for."""
    whole = biographies.texts(biographies.lay_out(np.arange(500), np.random.Philox(key=22).random_raw(500))).to_list()
    return [text for text in biographies.strings if text] + whole


def test_training_is_deterministic(biographies, tokenizer):
    """Ties between merges decided by chance: two ranks or two days would disagree about every token."""
    one, other = (json.loads(t.backend_tokenizer.to_str()) for t in (tokenizer, train_tokenizer(biographies, 1024)))
    assert one["model"]["merges"] == other["model"]["merges"]
    assert one == other
    assert len(tokenizer) == 1024


def test_trained_tokenizer_survives_saving(biographies, tokenizer, tmp_path):
    """A folder from which AutoTokenizer makes another tokenizer: a published model would be given other tokens."""
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    texts = biographies.texts(biographies.lay_out(INDIVIDUALS, WORDS)).to_list()
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert [loaded.decode(ids) for ids in loaded(texts)["input_ids"]] == texts
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(loaded, token) == getattr(tokenizer, token)
    again, before = (tokenize_biographies(biographies, t).render(INDIVIDUALS, WORDS) for t in (loaded, tokenizer))
    assert (again.labels == before.labels).all()


def test_smallest_vocabulary(biographies):
    """A vocabulary without room for all bytes, which would drop letters."""
    with pytest.raises(InputError, match="vocab_size 256 is below the 257 that all bytes need"):
        train_tokenizer(biographies, 256)
    smallest = train_tokenizer(biographies, 257)
    assert len(smallest) == 257
    assert smallest.decode(smallest("☃ Ω")["input_ids"]) == "☃ Ω"


def test_no_tokenizer_there(tmp_path):
    """A bare Hugging Face traceback for a path that was mistyped."""
    with pytest.raises(InputError, match=r"no tokenizer at .*nowhere"):
        load_tokenizer(tmp_path / "nowhere")


def test_tokenizer_without_end_token(tmp_path, corpus):
    """An end token None that only fails later, deep inside NumPy."""
    backend = byte_level("GPT-2", corpus).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no end token; set its eos_token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", [*BYTE_LEVEL, *SENTENCE_PIECE])
def test_foreign_tokenizers(facts, biographies, corpus, kind):
    """A space lost or doubled where pieces meet, or a value's tokens merged with their surroundings."""
    foreign = (byte_level if kind in BYTE_LEVEL else sentence_piece)(kind, corpus)
    batch = tokenize_biographies(biographies, foreign).render(INDIVIDUALS, WORDS, with_roles=True)
    texts = biographies.texts(biographies.lay_out(INDIVIDUALS, WORDS)).to_list()
    values = biographies.population.values(INDIVIDUALS)
    names = biographies.population.names(INDIVIDUALS)
    begin = [] if foreign.bos_token_id is None else [foreign.bos_token_id]
    for row, (labels, roles) in enumerate(zip(batch.labels, batch.roles, strict=True)):
        ids = labels[labels >= 0].tolist()
        assert foreign.decode(ids, skip_special_tokens=True) == texts[row]
        assert (ids[: len(begin)], ids[-1]) == (begin, foreign.eos_token_id)
        assert foreign.decode(labels[roles == NAME]).split() == names[row].split() * 4
        for index, attribute in enumerate(facts.attribute_names):
            assert foreign.decode(labels[roles == FIRST_VALUE + index]).strip() == values[attribute][row]
        if kind in ("GPT-2", "Llama 3", "single digits"):  # they never merge over the borders of pieces
            assert ids[:-1] == foreign(texts[row])["input_ids"]


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_tokenizer_is_refused(biographies, corpus, kind):
    """A tokenizer that changes the text, and so the facts, without a word."""
    with pytest.raises(InputError, match=r"does not give '.*' back"):
        tokenize_biographies(biographies, lossy(kind, corpus))


def test_anchor_that_merges_with_a_piece_is_replaced(biographies, corpus):
    """Pieces cut in the middle of a token where a tokenizer knows the first anchor together with them."""
    merging = [f"x{text}" for text in biographies.strings if text and text[0] in ".'"]
    tokenizer = byte_level("punctuation glued to words", corpus + 100 * merging)
    assert tokenizer.tokenize("x.") == ["x."]
    labels = tokenize_biographies(biographies, tokenizer).render(INDIVIDUALS, WORDS).labels
    texts = biographies.texts(biographies.lay_out(INDIVIDUALS, WORDS)).to_list()
    assert [tokenizer.decode(row[row >= 0], skip_special_tokens=True) for row in labels] == texts


def test_tokenizer_that_cannot_be_cut_is_refused(biographies):
    """Tokens that reach over the anchor: a value would lose its first letters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=["<unk>", "</s>"], show_progress=False)
    anchored = [anchor + piece for piece in biographies.strings for anchor in ("x", "0", ")", "\n")]
    tokenizer.train_from_iterator(anchored, trainer)
    with pytest.raises(InputError, match=r"does not give '.*' back, or not apart from the text before it"):
        tokenize_biographies(biographies, wrap(tokenizer))


def test_loss_of_a_single_name_is_noticed(facts, biographies, corpus):
    """A tokenizer that lacks a letter which few names have: their tokens would spell somebody else."""
    checked = set("".join(biographies.population.names(np.arange(64))))
    rare = sorted(set("".join(facts.pools["last_names"])) - checked)
    lacking = byte_level("GPT-2", corpus)
    lacking.backend_tokenizer.normalizer = normalizers.Replace(rare[0], "")
    with pytest.raises(InputError, match=f"does not give .*{rare[0]}.* back"):
        tokenize_biographies(biographies, lacking)
