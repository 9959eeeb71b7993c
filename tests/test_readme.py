"""The README's code runs, and its commands name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_number_of_snippets():
    """A snippet that the pattern misses."""
    assert len(SNIPPETS) == README.count("```python") == 3


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet, capsys):
    """An example that no longer works."""
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_named_files_exist():
    """A command or a link to a file that was renamed."""
    named = re.findall(
        r"(?:recipes|benchmarks|accelerate_configs|results|factdata)/[\w/.]+\.(?:py|yaml|png|md)", README
    )
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name
    targets = re.findall(r"make ([\w-]+)", README)
    makefile = (ROOT / "Makefile").read_text()
    assert {"pretrain", "test"} <= set(targets)
    assert all(f"\n{target}:" in makefile for target in targets)
