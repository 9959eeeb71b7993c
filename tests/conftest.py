"""What several test files need: no network, small facts, a trained tokenizer, a model of two layers."""

import atexit
import math
import os
import shutil
import tempfile
from pathlib import Path

HOME = tempfile.mkdtemp(prefix="factdata-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
# Before any Hugging Face library is imported: they read these once.
os.environ |= {"HF_HOME": HOME, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from factdata.biographies import Biographies  # noqa: E402
from factdata.facts import Facts  # noqa: E402
from factdata.population import Population  # noqa: E402
from factdata.tokenization import tokenize_biographies, train_tokenizer  # noqa: E402

ATTRIBUTES = ["birth_date", "birth_city", "university", "current_city"]
POOL_SIZES = {"first_names": 40, "middle_names": 30, "last_names": 50, "cities": 20, "universities": 10, "years": 30}


@pytest.fixture(scope="session")
def facts() -> Facts:
    """Four of the shipped attributes, with small pools: 60,000 names, some of them not ASCII."""
    return Facts.load(attributes=ATTRIBUTES, pool_sizes=POOL_SIZES)


@pytest.fixture(scope="session")
def biographies(facts):
    return Biographies(Population(facts, seed=1))


@pytest.fixture(scope="session")
def tokenizer(biographies):
    return train_tokenizer(biographies, vocab_size=1024)


@pytest.fixture(scope="session")
def tokenized(biographies, tokenizer):
    return tokenize_biographies(biographies, tokenizer)


@pytest.fixture
def facts_folder(tmp_path) -> Path:
    """A user's own facts: one name pool of 5, 4 colours and 8 rivers, three templates each."""
    files = {
        "attributes.yaml": (
            "name: [people]\n"
            "attributes:\n"
            "  colour: {value: [colours], question: 'Which colour does {name} like?'}\n"
            "  river: {value: [rivers], question: 'Which river does {name} swim in?'}\n"
        ),
        "pools/people.txt": "Al\nZoë\nIda\nBartholomew\nMeg\n",
        "pools/colours.txt": "red\ngreen\nblue\naquamarine\n",
        "pools/rivers.txt": "Nile\nRhine\nPo\nOb\nMississippi\nVolga\nLena\nAmur\n",
        "templates/colour.txt": (
            "{name} likes {value}.\n"
            "The favourite colour of {name} is {value}.\n"
            "{name}'s bike was painted {value} last year.\n"
        ),
        "templates/river.txt": (
            "{name} swims in the {value}.\n"
            "Fish know {name} from the {value}.\n"
            "On Sundays, {name}'s boat is on the {value}.\n"
        ),
    }
    folder = tmp_path / "facts"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make_gpt2():
    """Makes a GPT-2 of two layers and width 32, the same one for the same arguments."""

    def make(vocab_size: int, **config):
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        sizes = {"vocab_size": vocab_size, "n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 2}
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **config))

    return make


@pytest.fixture(scope="session")
def chi_square_p():
    """p-value of Pearson's test that counts follow equal (or the given) expectations (Wilson and Hilferty, 1931)."""

    def p_value(counts: np.ndarray, expected: np.ndarray | None = None, freedom: int | None = None) -> float:
        expected = counts.mean() if expected is None else expected
        freedom = counts.size - 1 if freedom is None else freedom
        ratio = float(((counts - expected) ** 2 / expected).sum()) / freedom
        variance = 2 / (9 * freedom)
        return 0.5 * math.erfc((ratio ** (1 / 3) - 1 + variance) / math.sqrt(2 * variance))

    return p_value
