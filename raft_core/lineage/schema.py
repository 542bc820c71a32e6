"""The columns of `lineage.parquet`; their descriptions stand in the file as field metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# Raised when a column is renamed, removed or changes its meaning; a new column does not raise it.
SCHEMA_VERSION = 1


def lineage_schema(metadata: dict[str, str]) -> pa.Schema:
    """One row per domain row that entered `prepare`; `metadata` is kept with the file."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    guard = pa.list_(
        pa.struct(
            [
                _field("rule", text, "name of the rule that the text breaks"),
                _field("failed", text, "what it says that the reference does not, or leaves out"),
            ]
        )
    )
    votes = pa.list_(
        pa.struct(
            [
                _field("judge", text, "kind of the judge and its place in the panel"),
                _field("grade", number, "in [0, 1]; null where the judge failed, counted as 0"),
            ]
        )
    )
    candidate = pa.struct(
        [
            _field("round", pa.int32(), "round of fusion, from 0"),
            _field("text", text, "the fused answer"),
            _field("finish_reason", text, "stop, length, too_long or error"),
            _field("error", text, "why no text was generated"),
            _field("mean", number, "mean grade of the panel; null where the text is unfinished"),
            _field("chosen", pa.bool_(), "whether it is the row's target"),
            _field("votes", votes, "one per judge"),
            _field("guard", guard, "broken rules; empty: passed; null: not looked at"),
        ]
    )
    fields = [
        _field("id", text, "id of the row, unique in this file", required=True),
        _field("split", text, "train, validation or test; null where not kept on file"),
        _field(
            "status",
            text,
            "fused, kept_rewrite or kept_reference: what is trained on; held_out: measured on; "
            "dropped: not used",
            required=True,
        ),
        _field("decided_by", text, "the stage that decided the status", required=True),
        _field("reason", text, "why it was not accepted; null where it was"),
        _field("detail", text, "figures of the reason"),
        _field("question", text, "the question; null where a dropped row's is not on file"),
        _field("reference", text, "the domain's own answer"),
        _field("expected", pa.list_(text), "strings that a right answer contains"),
        _field("prepare", _verdict(), "verdict of the stage prepare"),
        _field("rewrite", _rewrite(), "the base model's own wording; null where not asked for"),
        _field("filter", _filter(guard), "verdict of the filter; null where not looked at"),
        _field("fuse", _verdict(), "verdict of the fusion; null where not looked at"),
        _field("candidates", pa.list_(candidate), "fused answers; null where not looked at"),
        _field(
            "target",
            text,
            "the answer that is trained on; null where none is, or where a method decides",
        ),
        _field("target_source", text, "fused, rewrite or reference"),
        _field("made_with", pa.list_(_made_with()), "data, prompts and models of its stages"),
    ]
    version = {"raft.schema": "lineage", "raft.schema_version": str(SCHEMA_VERSION)}
    return pa.schema(fields, metadata=version | metadata)


def _verdict() -> pa.StructType:
    import pyarrow as pa

    return pa.struct(
        [
            _field("kept", pa.bool_(), "false where the stage rejected the row"),
            _field("reason", pa.string(), "why it was rejected"),
            _field("detail", pa.string(), "figures of the reason"),
        ]
    )


def _rewrite() -> pa.StructType:
    import pyarrow as pa

    return pa.struct(
        [
            _field("text", pa.string(), "the rewrite"),
            _field("finish_reason", pa.string(), "stop, length, too_long or error"),
            _field("tokens", pa.int32(), "generated tokens, the stop token included"),
            _field("error", pa.string(), "why no text was generated"),
        ]
    )


def _filter(guard: pa.ListType) -> pa.StructType:
    import pyarrow as pa

    return pa.struct(
        [
            _field("similarity", pa.float64(), "cosine of rewrite and reference"),
            _field("passed", pa.bool_(), "whether the rewrite may take the reference's place"),
            _field("reason", pa.string(), "why not"),
            _field("detail", pa.string(), "figures of the reason"),
            _field("guard", guard, "broken rules; empty: passed; null: not looked at"),
        ]
    )


def _made_with() -> pa.StructType:
    import pyarrow as pa

    return pa.struct(
        [
            _field("stage", pa.string(), "the stage that used it"),
            _field("kind", pa.string(), "data, prompt or model"),
            _field("role", pa.string(), "where it stands in the stage's settings"),
            _field("name", pa.string(), "what it is called"),
            _field(
                "digest",
                pa.string(),
                "sha256 of its content; of a hub's model the commit; of an endpoint's model the "
                "version that the settings name",
            ),
        ]
    )


def _field(name: str, kind: pa.DataType, description: str, *, required: bool = False) -> pa.Field:
    import pyarrow as pa

    metadata = {"description": description}
    return pa.field(name, kind, nullable=not required, metadata=metadata)
