"""Studies as settings: the shipped plan, its cells, and plans that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raft_core.app.study_plan import STUDIES, load_plan
from raft_core.errors import InputError
from raft_core.evaluation.study.config import Cell


def cell(row: str, student: str = "llama", domain: str = "law", seed: int = 1) -> Cell:
    return Cell(student=student, domain=domain, seed=seed, row=row)


@pytest.mark.parametrize("name", [path.stem for path in STUDIES.glob("*.yaml")])
def test_shipped_plan_every_cell_has_settings(name: str) -> None:
    plan = load_plan(name)
    seen = set()
    for each in plan.cells():
        if (each.student, each.row) not in seen:
            seen.add((each.student, each.row))
            plan.settings(each, plan.rates[0])


def test_plan_cells_main_rows_everywhere_ablations_where_they_are_meant() -> None:
    plan = load_plan("mini")
    names = [each.name for each in plan.cells()]
    everywhere = sum(len(plan.domains_of(student)) for student in plan.students) * len(plan.seeds)
    assert sum(name.endswith("/raft") for name in names) == everywhere
    assert sum(name.endswith("/top_8") for name in names) == len(plan.seeds)
    assert names[0].endswith("/base")


def test_plan_student_with_domains_of_its_own_has_no_other_cell() -> None:
    plan = load_plan("mini")
    own = plan.students["qwen3"].model_copy(update={"domains": ("law", "web")})
    narrow = plan.model_copy(update={"students": plan.students | {"qwen3": own}})
    assert {c.domain for c in narrow.cells("qwen3/*")} == {"law", "web"}
    assert {c.domain for c in narrow.cells("llama/*")} == set(plan.domains)
    assert narrow.rate_domains_of("qwen3") == ("law",)
    assert narrow.rate_domains_of("llama") == plan.rate_domains


def test_plan_cells_pattern_chooses() -> None:
    plan = load_plan("mini")
    assert [c.name for c in plan.cells("qwen3/law/2/raft")] == ["qwen3/law/2/raft"]
    assert not plan.cells("llama/none/*")


def test_plan_settings_hold_student_domain_seed_method_and_overrides() -> None:
    settings = load_plan("mini").settings(cell("lambda_0.1", seed=2), 3e-4)
    assert settings.domain.data.path == "mini:law@2"
    assert settings.seed == 2
    assert settings.methods["lambda_0.1"].learning_rate == 3e-4
    assert (settings.distill.balance.rule, settings.distill.balance.fixed) == ("fixed", 0.1)
    other = load_plan("mini").settings(cell("raft", student="qwen3"), 1e-4)
    assert other.base.path == "mini:peer"
    assert other.distill.balance.rule == "ema"


def test_plan_rate_of_takes_another_rows_rate() -> None:
    plan = load_plan("mini")
    assert plan.rate_row("lambda_1") == "raft"
    assert plan.rate_row("fapm") == "fapm"
    rates = {row: 1e-4 for row in plan.rows if plan.rate_row(row) == row} | {"raft": 3e-4}
    elsewhere = {row: rate for row, rate in rates.items() if row != "on_policy"}
    infos = plan.row_info({"llama": rates, "qwen3": elsewhere})
    assert infos["on_policy"].learning_rates == {"llama": 1e-4}
    assert infos["lambda_1"].learning_rates == {"llama": 3e-4, "qwen3": 3e-4}
    assert not infos["base"].trained


def test_pruned_method_shares_its_training_with_the_plain_one() -> None:
    plan = load_plan("mini")
    pruned, plain = (plan.settings(cell(row), 1e-4) for row in ("fapm", "sft"))
    assert pruned.distill_stage("fapm") == plain.distill_stage("sft")
    assert pruned.prune_stage("fapm") is not None
    assert plain.prune_stage("sft") is None


SFT_ROW = {"label": "SFT", "method": {"targets": "raw"}}


def test_plan_rate_given_is_not_looked_up() -> None:
    plan = load_plan("mini")
    assert plan.rate("sft_more", {}) == 1.2e-3
    assert plan.rate("lambda_1", {"raft": 3e-4}) == 3e-4


def changed(tmp_path: Path, **values: Any) -> str:
    plan = yaml.safe_load((STUDIES / "mini.yaml").read_text()) | values
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    return str(tmp_path / "plan.yaml")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"baseline": "none"}, "rows has no none"),
        ({"rate_domains": ["mars"]}, "domains has no mars"),
        ({"ablations": {"students": ["gpt"], "domains": ["law"]}}, "students has no gpt"),
        ({"students": {"llama": {"domains": ["tax"]}}}, "domains has no tax"),
        ({"students": {"llama": {"domains": ["web"]}}}, "none of its domains is in rate_domains"),
        (
            {
                "rows": {n: SFT_ROW for n in ("base", "r")},
                "baseline": "r",
                "method": "r",
                "pairs": [],
            },
            "'base' is the student before any training",
        ),
        (
            {
                "rows": {
                    "r": SFT_ROW,
                    "s": SFT_ROW | {"rate_of": "r"},
                    "t": SFT_ROW | {"rate_of": "s"},
                },
                "baseline": "r",
                "method": "r",
                "pairs": [],
            },
            "rate_of must name a row with a rate of its own",
        ),
        ({"rows": {"sft": {"label": "b", "method": {"targets": "cooked"}}}}, "targets"),
        ({"seeds": []}, "seeds"),
        (
            {
                "rows": {"r": SFT_ROW, "s": SFT_ROW | {"rate_of": "r", "learning_rate": 1e-3}},
                "baseline": "r",
                "method": "r",
                "pairs": [],
            },
            "give rate_of or learning_rate, not both",
        ),
        ({"speed": 1}, "speed"),
    ],
)
def test_plan_mistake_one_error_that_names_file_and_field(
    tmp_path: Path, values: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told) as error:
        load_plan(changed(tmp_path, **values))
    assert "plan.yaml" in str(error.value)


def test_plan_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="known: balance, mini"):
        load_plan("moon")
