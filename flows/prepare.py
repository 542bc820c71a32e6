"""A domain's rows from documents: cut them, ask about each passage, let voters decide.

`raft run --data pairs.jsonl` takes what comes out.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import Limit, Override, document_settings_of, require_place
from raft_core.app.document_settings import checked_documents
from raft_core.app.pipeline import count_passages, pairs_of_documents, passages_node
from raft_core.errors import RaftError
from tasks import documents as outcome
from tasks.pipeline import submit_graph
from tasks.run_context import open_context
from tasks.tracking import Tracker

MAX_WAITING_TASKS = 64


def run_name() -> str:
    """The flow run's name, by what the documents lie in."""
    try:
        return f"prepare {document_settings_of(flow_run.parameters).name}"
    except RaftError:  # bad settings are the flow's to refuse: a name must not fail
        return f"prepare {flow_run.parameters['documents']}"


@flow(
    name="prepare",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_WAITING_TASKS),
    persist_result=False,
)
def prepare(
    profile: str = "mini",
    documents: str | None = None,
    out: str = "pairs.jsonl",
    limit: Limit | None = None,
    overrides: list[Override] = [],  # noqa: B006 (Prefect reads the default and never changes it)
) -> dict[str, Any]:
    """Turn documents into question-answer pairs that several models agree on.

    Args:
        profile: Models and settings: the name of a file in conf/documents/, or a path.
        documents: A .txt, .md or .jsonl file, a folder or a glob, in place of the profile's.
        out: Where the pairs are written, as JSONL; rejected rows and report are put beside it.
        limit: Use this many documents, chosen by the hash of their ids.
        overrides: Settings on top of the file, each as section.field=value.
    """
    parameters = {"profile": profile, "documents": documents, "limit": limit}
    settings = checked_documents(document_settings_of(parameters | {"overrides": overrides}))
    place = require_place(out, settings.documents.path)
    with open_context(settings.runtime, Tracker.of_documents(settings)) as context:
        passages = passages_node(settings)
        made = submit_graph(context, [passages])
        pairs = pairs_of_documents(settings, passages, count_passages(made[passages]))
        made = submit_graph(context, [pairs], made)
        return outcome.results(context, settings, made[pairs], place)
