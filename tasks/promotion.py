"""What a retraining tells: a Prefect artifact with the numbers, and the state of its flow run."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from raft_core.app.settings import Settings
from raft_core.store.artifacts import ArtifactRef
from tasks.run_context import RunContext
from tasks.tracking import Version

OUTCOMES = {"promoted": "Promoted", "refused": "Refused"}


def unchanged(settings: Settings, latest: Version) -> State[Any]:
    """Nothing to do: data, base, settings and code are those of the latest version."""
    told = (
        f"nothing has changed since version {latest.number} of {latest.name}, "
        f"which was {latest.decision}"
    )
    return _state("Unchanged", settings.domain.name, told, f"Nothing to do: {told}.")


def decided(
    context: RunContext,
    settings: Settings,
    version: Version,
    replaced: Version | None,
    decision: ArtifactRef,
) -> State[Any]:
    """The decision with every number that it rests on."""
    table = (decision.folder / "decision.md").read_text()
    outcome = version.decision
    told = f"version {version.number} of {version.name} is {outcome}"
    if outcome == "promoted":
        told += f" in place of version {replaced.number}" if replaced else " as the first champion"
    else:
        told += f"; version {replaced.number} stays" if replaced else "; there is no champion yet"
    made_of = "\n".join(f"- {name}: `{digest}`" for name, digest in version.lineage.items())
    generated = ", ".join(
        f"{stage} {counts['generated']} of {counts['generated'] + counts['cached']}"
        for stage, counts in context.generations.by_stage().items()
    )
    now = f"Generated now: {generated or 'nothing here'}"
    page = f"{told.capitalize()}.\n\n{table}\nMade of\n\n{made_of}\n\n{now}\n"
    tags = {"raft.decision": outcome, "raft.version": version.number}
    context.tracker.log_decision(decision, tags)
    return _state(OUTCOMES[outcome], settings.domain.name, told, page)


def _state(name: str, domain: str, told: str, page: str) -> State[Any]:
    create_markdown_artifact(key=f"decision-{domain.replace('_', '-')}", markdown=page)
    return Completed(name=name, message=told, data={"outcome": name, "page": page})


def show(result: dict[str, str]) -> None:
    """Print the decision."""
    print(f"\n{result['outcome']}\n\n{result['page']}")
