"""Measures the latency table: milliseconds of every candidate operation, for `--cost latency`.

One supernet computes each candidate in turn, alone in all nodes of its side, while the nodes of the
other side are zero. What it takes longer than with zero everywhere, divided by its nodes, is the
time of the candidate in one layer. What surrounds the nodes is measured on derived networks of
zeros: they have as many layers, and twice as many on one side.

In decoding, the encoder computes once what the decoder computes step by step, so it is timed alone:
its part would be lost in the noise of a beam search.

Of the runs, taken in turn, the fastest counts: whatever else the machine does only adds time.
"""

from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import torch
from fairseq.models import FairseqEncoderDecoderModel

from ..genotype import Genotype
from ..search.active import active_on
from ..search.latency_table import MEASURES, SIZES, LatencyTable, Times
from ..search_space import CANDIDATES, FIXED_LAST_OPERATION, searched_splits
from .measure import Steps, measure_time, time_beam_search
from .workload import Workload

BEAM = 5
#: A sentence is encoded so many times in a row, because once is too short to time.
ENCODED = 10
NOTHING = "zero"
BASE = "the layers alone"
#: Of what differs on one side, the measurement that gives each of MEASURES.
MEASURED = {
    "encoder": {"decode": "encode", "train": "train"},
    "decoder": {"decode": "decode", "train": "train"},
}


class Subject(NamedTuple):
    """What is timed: a network and, of a supernet, the path that it evaluates."""

    model: FairseqEncoderDecoderModel
    path: Optional[Genotype] = None


def measure_latency(
    workload: Workload,
    flags: Mapping[str, Any],
    runs: int,
    machine: str,
    report: Callable[[str], None],
) -> LatencyTable:
    """The table of one size of network, on this machine.

    Args:
        workload: batch, precision and device
        flags: of the configuration of `revdarts_transformer`, of a supernet
        runs: timed runs of each candidate
        machine: what the table says of it
        report: is told what is measured next
    """
    report("building the networks")
    subjects = _subjects(workload, dict(flags))
    times = _fastest(workload, subjects, runs, report)
    layers = {side: flags[f"{side}_layers"] for side in CANDIDATES}
    layer = {
        side: _part(side, times[f"{side}, twice the layers"], times[BASE], layers[side])
        for side in CANDIDATES
    }
    outside = {
        measure: max(
            0.0,
            times[BASE][measure] - sum(layers[side] * layer[side][measure] for side in CANDIDATES),
        )
        for measure in MEASURES
    }
    nodes = {
        side: layers[side] * searched_splits(side, flags[f"{side}_splits"]) for side in CANDIDATES
    }
    candidates = {
        side: {
            name: _part(side, times[f"{side}, {name}"], times[f"{side}, {NOTHING}"], nodes[side])
            for name in names
            if f"{side}, {name}" in times
        }
        for side, names in CANDIDATES.items()
    }
    sizes = {name: flags[name] for name in SIZES}
    measured_with = {"beam": BEAM, "layers": flags["encoder_layers"], **asdict(workload)}
    return LatencyTable(machine, sizes, measured_with, outside, layer, candidates)


def _subjects(workload: Workload, flags: Dict[str, Any]) -> Dict[str, Subject]:
    """The layers alone, twice as many layers on one side, and each candidate, by name."""
    nothing = _path(flags).to_json()
    subjects = {BASE: Subject(workload.build({**flags, "genotype": nothing}))}
    for side in CANDIDATES:
        more = {f"{side}_layers": 2 * flags[f"{side}_layers"], "genotype": nothing}
        subjects[f"{side}, twice the layers"] = Subject(workload.build({**flags, **more}))
        chosen = flags.get(f"{side}_candidates")
        flags[f"{side}_candidates"] = None if chosen is None else f"{chosen},{NOTHING}"
    supernet = workload.build({**flags, "backprop": "store"})
    for side, names in supernet.architecture.candidates.items():
        for name in names:
            subjects[f"{side}, {name}"] = Subject(supernet, _path(flags, **{side: name}))
    return subjects


def _path(flags: Mapping[str, Any], **operations: str) -> Genotype:
    """One operation in all searched nodes of a side; zero if it is not named."""
    cells = {}
    for side, fixed in FIXED_LAST_OPERATION.items():
        searched = searched_splits(side, flags[f"{side}_splits"])
        layer = (*([operations.get(side, NOTHING)] * searched), *fixed)
        cells[side] = (layer,) * flags["cell_layers"]
    return Genotype(pooling=flags["pooling"], **cells)


def _fastest(
    workload: Workload, subjects: Mapping[str, Subject], runs: int, report: Callable[[str], None]
) -> Dict[str, Times]:
    """Milliseconds of each subject, the least of its runs."""
    steps = {id(subject.model): Steps(workload, subject.model) for subject in subjects.values()}
    times: Dict[str, Times] = {name: {} for name in subjects}
    for run in range(-1, runs):  # the first warms up
        for number, (name, (model, path)) in enumerate(subjects.items(), 1):
            turn = "warming up" if run < 0 else f"run {run + 1} of {runs}"
            report(f"{turn}, {number} of {len(subjects)}: {name}")
            with model.architecture.restricted_to(active_on(path)) if path else nullcontext():
                seconds = _seconds(workload, name, steps[id(model)])
            if run >= 0:
                so_far = times[name]
                times[name] = {m: min(so_far.get(m, s), s) for m, s in seconds.items()}
    return {name: {m: 1000 * s for m, s in of.items()} for name, of in times.items()}


def _seconds(workload: Workload, name: str, steps: Steps) -> Dict[str, float]:
    """Encoding a sentence, translating it if the decoder is of interest, and a training step."""
    sentence = replace(workload, tokens=workload.length)
    sources = sentence.batch()["net_input"]["src_tokens"]
    train = measure_time(steps, steps.theta)
    steps.clear()
    steps.model.eval()
    with torch.no_grad():
        encode = measure_time(steps, lambda: [steps.model.encoder(sources) for _ in range(ENCODED)])
    steps.model.train()
    if name.startswith("encoder"):
        return {"encode": encode / ENCODED, "train": train}
    decode, _ = time_beam_search(sentence, steps.model, BEAM)
    return {"encode": encode / ENCODED, "decode": decode, "train": train}


def _part(side: str, whole: Times, rest: Times, parts: int) -> Times:
    """What `whole` takes longer than `rest`, in each of as many parts of a side."""
    return {
        measure: max(0.0, whole[measured] - rest[measured]) / parts
        for measure, measured in MEASURED[side].items()
    }


def describe(table: LatencyTable) -> str:
    """The times of the table, for people."""
    heads = f"{'':8}{'':18}{'decode ms':>10}{'train ms':>10}"
    rows: List[str] = [heads, _row("outside", "", table.outside)]
    for side in CANDIDATES:
        rows.append(_row(side, "a layer alone", table.layer[side]))
        rows += [_row("", name, times) for name, times in table.candidates[side].items()]
    return "\n".join(rows)


def _row(side: str, name: str, times: Times) -> str:
    return f"{side:8}{name:18}" + "".join(f"{times[measure]:10.3f}" for measure in MEASURES)
