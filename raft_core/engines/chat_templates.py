"""Render chat templates without transformers, whose import takes seconds: for checks only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from raft_core.engines.chat import TEMPLATE_DAY

MEMORY_BYTES = 2**30


def render(template: str, message: str, special_tokens: Mapping[str, str]) -> str:
    """Return what a model is shown of one user message, in the sandbox that transformers uses.

    Raises:
        Exception: whatever the template's program raises.
    """
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's part, and shows it as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(said: str) -> NoReturn:
        raise ValueError(said)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **how: json.dumps(
        value, ensure_ascii=ensure_ascii, **how
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = TEMPLATE_DAY.strftime
    with memory_bound(MEMORY_BYTES):
        return environment.from_string(template).render(
            **special_tokens,
            messages=[{"role": "user", "content": message}],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            enable_thinking=False,
        )


@contextmanager
def memory_bound(size: int) -> Iterator[None]:
    """Let this process grow by at most `size` bytes meanwhile, where the kernel can enforce it.

    Raises:
        MemoryError: it wanted more.
    """
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + size
    bound = most if soft == resource.RLIM_INFINITY else min(most, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
