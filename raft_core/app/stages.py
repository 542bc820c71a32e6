"""The registry of stages: by name, with the type of their configuration and what runs them.

Importing this loads neither torch nor vllm: a stage's function is found when it runs.
"""

from __future__ import annotations

from raft_core.distill import config as distill_config
from raft_core.documents import config as documents_config
from raft_core.evaluation import config as evaluation_config
from raft_core.evaluation import promote, report_config
from raft_core.evaluation.study import config as study_config
from raft_core.execution.slots import LONG, SHARED, SHORT
from raft_core.execution.stage import Stage
from raft_core.lineage import config as lineage_config
from raft_core.refine import embed, fuse, gather, prepare, rewrite
from raft_core.refine import filter as filter_rewrites
from raft_core.store.artifacts import StageSpec


def rank_after_training(spec: StageSpec) -> int:
    """Refining and the base's answers come before a trained model's."""
    return SHORT if "distill" in spec.inputs else SHARED


def rank_of_training(spec: StageSpec) -> int:
    """Of the trainings those that sample take longest, and come first."""
    sampling = distill_config.DistillStage.model_validate(spec.config).method.samples
    return LONG if sampling else SHORT


# They make a domain's rows; no model depends on their code but through these.
DOCUMENT_STAGES = ("passages", "ask", "vote", "pairs")
GENERATION = ("torch", "transformers", "vllm")
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "prepare",
            prepare.VERSION,
            prepare.PrepareStage,
            "raft_core.refine.prepare",
            needs=("torch", "sentence_transformers", "faiss"),
        ),
        Stage(
            "rewrite",
            rewrite.VERSION,
            rewrite.RewriteStage,
            "raft_core.refine.rewrite",
            needs=GENERATION,
        ),
        Stage("embed", embed.VERSION, embed.EmbedStage, "raft_core.refine.embed", light=True),
        Stage(
            "filter",
            filter_rewrites.VERSION,
            filter_rewrites.FilterStage,
            "raft_core.refine.filter",
        ),
        Stage("fuse", fuse.VERSION, fuse.FuseStage, "raft_core.refine.fuse"),
        Stage("gather", gather.VERSION, gather.GatherStage, "raft_core.refine.gather"),
        Stage(
            "lineage",
            lineage_config.VERSION,
            lineage_config.LineageStage,
            "raft_core.lineage.lineage",
            light=True,
        ),
        Stage(
            "distill",
            distill_config.VERSION,
            distill_config.DistillStage,
            "raft_core.distill.distill",
            trains=True,
            rank=rank_of_training,
        ),
        Stage(
            "prune",
            distill_config.PRUNE_VERSION,
            distill_config.PruneStage,
            "raft_core.distill.prune",
            rank=rank_after_training,
        ),
        Stage(
            "respond",
            evaluation_config.RESPOND_VERSION,
            evaluation_config.RespondStage,
            "raft_core.evaluation.respond",
            needs=GENERATION,
            rank=rank_after_training,
        ),
        Stage(
            "evaluate",
            evaluation_config.EVALUATE_VERSION,
            evaluation_config.EvaluateStage,
            "raft_core.evaluation.evaluate",
        ),
        Stage(
            "report",
            report_config.VERSION,
            report_config.ReportStage,
            "raft_core.evaluation.report",
        ),
        Stage("promote", promote.VERSION, promote.PromoteStage, "raft_core.evaluation.promote"),
        Stage(
            "study",
            study_config.VERSION,
            study_config.StudyStage,
            "raft_core.evaluation.study.study",
        ),
        Stage(
            "passages",
            documents_config.PASSAGES_VERSION,
            documents_config.PassagesStage,
            "raft_core.documents.passages",
        ),
        Stage(
            "ask",
            documents_config.ASK_VERSION,
            documents_config.AskStage,
            "raft_core.documents.ask",
        ),
        Stage(
            "vote",
            documents_config.VOTE_VERSION,
            documents_config.VoteStage,
            "raft_core.documents.vote",
        ),
        Stage(
            "pairs",
            documents_config.PAIRS_VERSION,
            documents_config.PairsStage,
            "raft_core.documents.pairs",
        ),
    )
}
