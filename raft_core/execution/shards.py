"""Parts of the training rows that are generated for on their own, on one machine or on many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from raft_core.config.base import FrozenConfig

Row = TypeVar("Row")


class Shard(FrozenConfig):
    """Rows `index`, `index + of`, ... of the training split."""

    index: Annotated[int, Field(ge=0)] = 0
    of: Annotated[int, Field(gt=0)] = 1

    @property
    def is_whole(self) -> bool:
        """Whether this is all rows."""
        return self.of == 1

    def rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Its share of all rows."""
        return rows[self.index :: self.of]

    def stream(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same of rows that are read one by one; the others are not held."""
        return islice(rows, self.index, None, self.of)

    @model_validator(mode="after")
    def _index_in_range(self) -> Shard:
        if self.index >= self.of:
            raise ValueError(f"shard {self.index} of {self.of} does not exist")
        return self


WHOLE = Shard()


def shards_for(rows: int, rows_per_shard: int) -> list[Shard]:
    """The shards that cover `rows` rows."""
    count = max(1, -(-rows // rows_per_shard))
    return [Shard(index=i, of=count) for i in range(count)]
