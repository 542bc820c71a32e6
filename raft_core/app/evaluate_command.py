"""`raft evaluate --model PATH --benchmarks ifeval,domain`: one model, no pipeline.

The same stages as in a run, in the same store: what was answered or judged before is found again,
and another panel judges the answers that are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raft_core.app.checks import require_endpoint_keys, require_rows
from raft_core.app.model_checks import check_models
from raft_core.app.pipeline import STAGES, evaluate, prepare_node
from raft_core.app.settings import Settings, default_domain, load_settings
from raft_core.config.base import ModelRef, made_folder, pinned
from raft_core.engines.base import OpenAIConfig
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.evaluation.independence import overlap_warnings
from raft_core.execution.execute import open_execution
from raft_core.execution.graph import run_graph
from raft_core.execution.terminal import Terminal
from raft_core.store.artifacts import ArtifactRef
from raft_core.store.private_files import keep_private, with_users_mask

IFEVAL = "ifeval"


def main(arguments: Sequence[str]) -> int:
    """Print a line per benchmark and where every answer and vote lies, and return 0.

    Raises:
        InputError: a setting, the model, a benchmark or its data cannot be used.
        StageError: a stage failed.
    """
    options = _parser().parse_args(arguments)
    keep_private()
    settings = settings_for(options)
    for warning in overlap_warnings(settings.panel_members()):
        print(f"warning: {warning}", file=sys.stderr)
    # Two stages alone: nothing is worth forking them from.
    runtime = settings.runtime.model_copy(update={"preload": ()})
    with open_execution(runtime, STAGES, (Terminal(),)) as run:
        needs_rows = any(each.domain_files for each in settings.evaluate.benchmarks.values())
        scored = evaluate(settings, "", prepare_node(settings) if needs_rows else None)
        made = run_graph(run, [scored])
    evaluated = made[scored]
    scores = json.loads((evaluated.folder / "scores.json").read_text())
    print("\n".join(line for name, score in scores.items() for line in lines_of(name, score)))
    folder = keep(options.out, *made.values()) if options.out else evaluated.folder
    print(f"every answer with its votes: {folder / 'verdicts.jsonl'}")
    return 0


def settings_for(options: argparse.Namespace) -> Settings:
    """The profile's settings with this model and these benchmarks, checked.

    Raises:
        InputError: the first thing that is wrong.
    """
    settings = load_settings(
        options.profile,
        options.domain or default_domain(options.profile, options.data),
        options.overrides,
        data=options.data,
        limit=options.limit,
    )
    assert not isinstance(settings.engine, OpenAIConfig)
    chosen = choose(settings.evaluate.benchmarks, options.benchmarks)
    evaluate = settings.evaluate.model_copy(update={"benchmarks": chosen})
    engine = settings.engine.model_copy(update={"model": ModelRef(path=options.model)})
    require_rows(evaluate.benchmarks)
    require_endpoint_keys(evaluate.panel, settings.runtime)
    check_models((engine, evaluate.panel))
    return settings.model_copy(update={"engine": pinned(engine), "evaluate": pinned(evaluate)})


def choose(known: Mapping[str, BenchmarkConfig], names: str | None) -> dict[str, BenchmarkConfig]:
    """The benchmarks of a comma-separated list; `ifeval` is the one of IFEval's kind.

    Raises:
        InputError: there is none of such a name.
    """
    if names is None:
        return dict(known)
    chosen = {}
    for name in (part.strip() for part in names.split(",")):
        of_kind = [key for key, bench in known.items() if bench.kind == "instructions"]
        key = of_kind[0] if name == IFEVAL and IFEVAL not in known and of_kind else name
        if key not in known:
            raise InputError(
                f"--benchmarks: no '{name}'; evaluate.benchmarks has {', '.join(known)}"
            )
        chosen[key] = known[key]
    return chosen


def lines_of(name: str, score: Mapping[str, Any]) -> list[str]:
    """A benchmark's score with its interval, and IFEval's own figures below it."""
    lines = [f"{name}: {share(score['accuracy'], score)} of {score['n']}"]
    if score["undecided"] == score["n"]:
        lines = [f"{name}: undecided, the panel could tell of no answer whether it is right"]
    for level, figure in score.get("ifeval", {}).items():
        if level == "sentence_splitter":
            lines.append(f"  sentences split by {figure}")
        else:
            shown = share(figure["value"], figure) if "low" in figure else f"{figure['value']:.3f}"
            lines.append(f"  {level.replace('_', ' ')}: {shown}")
    return lines


def share(value: float, bounds: Mapping[str, float]) -> str:
    """`0.936 [0.900, 0.960]`, with its 95% interval."""
    return f"{value:.3f} [{bounds['low']:.3f}, {bounds['high']:.3f}]"


def keep(folder: Path, *artifacts: ArtifactRef) -> Path:
    """Copy what the stages wrote into a folder of the user's own."""
    with with_users_mask():
        made_folder(folder, "--out")
        for made_by_stage in artifacts:
            for name in ("responses.jsonl", "harness.jsonl", "verdicts.jsonl", "scores.json"):
                if (made_by_stage.folder / name).is_file():
                    shutil.copyfile(made_by_stage.folder / name, folder / name)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raft evaluate",
        description=__doc__,
        epilog="example: raft evaluate --model path/to/checkpoint --benchmarks ifeval,domain",
    )
    parser.add_argument("--model", required=True, help="a checkpoint folder, or a hub id")
    parser.add_argument(
        "--benchmarks", help="names under evaluate.benchmarks, with commas; default: all"
    )
    parser.add_argument("--profile", default="mini", help="conf/PROFILE.yaml, or a file")
    parser.add_argument("--domain", help="conf/domains/DOMAIN.yaml, or a file")
    parser.add_argument("--data", help="the domain's rows: .jsonl, .parquet, a datasets folder")
    parser.add_argument("--limit", type=int, help="use this many of the domain's rows")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE"
    )
    parser.add_argument("--out", type=Path, help="copy answers, votes and scores into this folder")
    return parser
