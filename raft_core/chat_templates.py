"""Chat templates without transformers, whose import takes seconds: for checks, not for models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from raft_core.engines.chat import TEMPLATE_DAY

LONGEST = 1_000_000


def render(template: str, message: str, special_tokens: Mapping[str, str]) -> str:
    """What a model is shown of one user message, in the sandbox that transformers uses.

    Raises:
        Exception: whatever the template's program raises.
    """
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        """A product of a text cannot fill the memory."""

        intercepted_binops = frozenset("*")

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            size = next((len(x) for x in (left, right) if hasattr(x, "__len__")), 1)
            times = next((x for x in (left, right) if isinstance(x, int)), 1)
            if size * times > LONGEST:
                raise ValueError(f"a text of more than {LONGEST:,} characters")
            return super().call_binop(context, operator, left, right)

    class Generation(Extension):
        """`{% generation %}` marks the assistant's part, and shows it as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(said: str) -> NoReturn:
        raise ValueError(said)

    environment = Bounded(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **how: json.dumps(
        value, ensure_ascii=ensure_ascii, **how
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = TEMPLATE_DAY.strftime
    return environment.from_string(template).render(
        **special_tokens,
        messages=[{"role": "user", "content": message}],
        tools=None,
        documents=None,
        add_generation_prompt=True,
        enable_thinking=False,
    )
