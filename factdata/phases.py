"""Phases as people write them, in YAML or Python dictionaries → phases of a Schedule.

    schedule:
      - {distribution: uniform, individuals: 8192, steps: 2000}
      - {distribution: uniform}

Keys of a phase
  distribution  uniform | inverse_power_law | celebrities | sequential | weighted
  cohort        whose individuals (seen); another one for a second population
  individuals   the cohort's first n only; [n, m] grows from n to m
  alpha         of inverse_power_law; [a, b] moves from a to b
  celebrities, weight     the first n individuals, drawn weight times more often
  groups, repeats         of sequential: the individuals in groups, gone through in order, so many times
  weights                 of weighted: one an individual or group; two lists move from one to the other
  within_batch_repeats    each step draws every individual so many times
  steps | epochs | exposures    how long: steps; epochs of (whole cohort / global batch) steps (paper §3);
                                or until each of the phase's individuals has been met so often, on average
  until         plateau_end: ends when the plateau does; with steps, at the latest then
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from factdata.distributions import (
    Celebrities,
    Changing,
    Distribution,
    InversePowerLaw,
    Subset,
    Uniform,
    Weighted,
    WithinBatchRepetition,
    sequential_groups,
)
from factdata.errors import InputError, did_you_mean
from factdata.schedules import Phase

# Distribution → the keys that it needs.
NEEDS = {
    "uniform": set(),
    "inverse_power_law": {"alpha"},
    "celebrities": {"celebrities", "weight"},
    "sequential": {"groups"},
    "weighted": {"weights"},
}
DURATIONS = ("steps", "epochs", "exposures")
COMMON = {"distribution", "cohort", "individuals", "within_batch_repeats", "until", *DURATIONS}


def build_phases(
    specs: Sequence[Mapping[str, Any]], cohorts: Mapping[str, range], global_batch: int, num_steps: int
) -> list[Phase]:
    """The phases that ``specs`` describe, over individuals of ``cohorts``; an InputError names the phase."""
    phases: list[Phase] = []
    for number, spec in enumerate(specs, start=1):
        try:
            left = None if any(phase.until for phase in phases) else num_steps - sum(p.steps or 0 for p in phases)
            phases += _build(spec, cohorts, global_batch, left)
        except InputError as error:
            raise InputError(f"schedule, phase {number}: {error}") from None
    return phases


def _build(
    spec: Mapping[str, Any], cohorts: Mapping[str, range], global_batch: int, steps_left: int | None
) -> list[Phase]:
    kind = _checked_kind(spec)
    cohort = spec.get("cohort", "seen")
    if not isinstance(cohort, str) or not cohorts.get(cohort):
        raise InputError(
            f"there is no cohort {cohort!r}{did_you_mean(str(cohort), [c for c in cohorts if cohorts[c]])}"
        )
    everybody = len(cohorts[cohort])
    size = spec.get("individuals", everybody)
    for n in _pair("individuals", size) if isinstance(size, list) else [size]:
        _check_number("individuals", n, 1, everybody)
    largest = max(size) if isinstance(size, list) else size
    steps = _duration(spec, largest, everybody, global_batch)
    if kind == "sequential":
        return _take_turns(spec, cohorts[cohort], size, global_batch, steps, steps_left)

    distribution = _distribution(kind, spec, size)
    if not isinstance(distribution, Changing):
        distribution = _in_cohort(distribution, spec, cohorts[cohort], global_batch)
    elif cohorts[cohort].start or "within_batch_repeats" in spec:
        raise InputError("a distribution that changes works on the seen cohort, without within_batch_repeats")
    elif "until" in spec:
        raise InputError("a distribution that changes needs a known length, so it cannot last until plateau_end")
    return [Phase(distribution, steps, spec.get("until"), f"{kind} over {largest:,} {cohort}")]


def _take_turns(
    spec: Mapping[str, Any], cohort: range, size: Any, global_batch: int, steps: int | None, steps_left: int | None
) -> list[Phase]:
    """Sequential groups: a phase for each turn of each group, of equal length; without a length, to the end."""
    if "until" in spec or isinstance(size, list):
        raise InputError("sequential groups have a fixed size and length: no until, no individuals [from, to]")
    groups = _check_number("groups", spec["groups"], 1, size)
    turns = list(sequential_groups(size, groups)) * _check_number("repeats", spec.get("repeats", 1), 1)
    total = steps_left if steps is None else steps
    if total is None:
        raise InputError("sequential groups behind a phase that ends by itself need a length")
    if total < len(turns):
        raise InputError(f"{len(turns)} turns of groups do not fit {total} steps")
    edges = [total * turn // len(turns) for turn in range(len(turns) + 1)]
    lengths: list[int | None] = [stop - start for start, stop in zip(edges, edges[1:], strict=False)]
    if steps is None:
        lengths[-1] = None
    return [
        Phase(_in_cohort(group, spec, cohort, global_batch), length, None, f"group {turn % groups + 1}")
        for turn, (group, length) in enumerate(zip(turns, lengths, strict=True))
    ]


def _distribution(kind: str, spec: Mapping[str, Any], size: int | list[int]) -> Distribution | Changing:
    if isinstance(size, list):
        if kind != "uniform":
            raise InputError("individuals: [from, to] works with the uniform distribution only")
        return Changing("individuals", size[0], size[1], max(size))
    if kind == "inverse_power_law":
        if isinstance(spec["alpha"], list):
            ends = [_check_number("alpha", alpha, 0, kind=(int, float)) for alpha in _pair("alpha", spec["alpha"])]
            return Changing("alpha", *ends, size)
        return InversePowerLaw(size, _check_number("alpha", spec["alpha"], 0, kind=(int, float)))
    if kind == "celebrities":
        weight = _check_number("weight", spec["weight"], kind=(int, float))
        return Celebrities(size, _check_number("celebrities", spec["celebrities"], 1, size), weight)
    if kind == "weighted":
        rows = spec["weights"] if _is_list_of(spec["weights"], list) else [spec["weights"]]
        for row in rows:
            if not _is_list_of(row, (int, float)) or len(row) != size:
                raise InputError(f"weights {row!r}: wanted a list of {size} numbers, or two such lists")
        rows = [Weighted(tuple(row)).weights for row in rows]
        return Weighted(rows[0]) if len(rows) == 1 else Changing("weights", *_pair("weights", rows), size)
    return Uniform(size)


def _in_cohort(distribution: Distribution, spec: Mapping[str, Any], cohort: range, global_batch: int) -> Distribution:
    if cohort.start:
        distribution = Subset(distribution, cohort.start)
    if "within_batch_repeats" in spec:
        repeats = _check_number("within_batch_repeats", spec["within_batch_repeats"], 1)
        if global_batch % repeats:
            raise InputError(f"a global batch of {global_batch} does not hold individuals {repeats} times each")
        distribution = WithinBatchRepetition(distribution, repeats)
    return distribution


def _duration(spec: Mapping[str, Any], individuals: int, everybody: int, global_batch: int) -> int | None:
    given = [key for key in DURATIONS if key in spec]
    if len(given) > 1:
        raise InputError(f"has {' and '.join(given)}; one of them says how long it lasts")
    if not given:
        return None
    value = _check_number(given[0], spec[given[0]], 0, kind=(int, float))
    steps = {
        "steps": value,
        "epochs": value * everybody / global_batch,
        "exposures": value * individuals / global_batch,
    }
    if given[0] == "steps" and not isinstance(value, int):
        raise InputError(f"steps {value!r}: wanted a whole number")
    if steps[given[0]] <= 0:
        raise InputError(f"{given[0]} {value!r}: wanted more than 0")
    return math.ceil(steps[given[0]])


def _checked_kind(spec: Mapping[str, Any]) -> str:
    if not isinstance(spec, Mapping) or "distribution" not in spec:
        raise InputError("wanted keys such as {distribution: uniform, steps: 2000}")
    kind = spec["distribution"]
    if not isinstance(kind, str) or kind not in NEEDS:
        raise InputError(f"unknown distribution {kind!r}{did_you_mean(str(kind), NEEDS)}")
    optional = {"repeats"} if kind == "sequential" else set()
    for key in spec:
        if key not in COMMON | NEEDS[kind] | optional:
            raise InputError(f"{kind} takes no {key!r}{did_you_mean(str(key), COMMON | NEEDS[kind] | optional)}")
    missing = sorted(NEEDS[kind] - spec.keys())
    if missing:
        raise InputError(f"{kind} needs {' and '.join(missing)}")
    return kind


def _check_number(name: str, value: Any, least: float | None = None, most: float | None = None, kind: Any = int) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{name} {value!r}: wanted a {'whole ' if kind is int else ''}number")
    if (least is not None and value < least) or (most is not None and value > most):
        limits = f"{least} or more" if most is None else f"{least} to {most:,}"
        raise InputError(f"{name} {value}: wanted {limits}")
    return value


def _pair(name: str, values: Any) -> tuple[Any, Any]:
    if not isinstance(values, list) or len(values) != 2:
        raise InputError(f"{name}: wanted [from, to], found {values!r}")
    return values[0], values[1]


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)
