from __future__ import annotations

import pytest

from raft_core.errors import InputError
from raft_core.prompts import FOLDER, Prompt, PromptRef, load_prompt


def test_render_braces_in_the_data_are_not_placeholders() -> None:
    prompt = Prompt("p", "Q: {question} A: {answer}")
    assert prompt.render(question="{answer}", answer="{x}") == "Q: {answer} A: {x}"


def test_render_value_without_placeholder_error() -> None:
    with pytest.raises(KeyError, match="no placeholder"):
        Prompt("p", "{question}").render(question="a", other="b")


def test_render_missing_value_error() -> None:
    with pytest.raises(KeyError, match="answer"):
        Prompt("p", "{question}{answer}").render(question="a")


def test_render_fence_is_one_code_for_the_same_texts_and_no_value() -> None:
    prompt = Prompt("p", "{fence} {question} {fence}")
    first = prompt.render(question="a")
    assert prompt.fields == {"question"}
    assert first.split()[0] == first.split()[2] != prompt.render(question="b").split()[0]
    assert first == prompt.render(question="a")
    with pytest.raises(KeyError, match="no placeholder"):
        prompt.render(question="a", fence="mine")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_shipped_prompts_load_and_have_placeholders(name: str) -> None:
    assert load_prompt(name).fields


def test_load_prompt_unknown_error_lists_the_shipped() -> None:
    with pytest.raises(InputError, match=r"'nope'.*rewrite\.v1"):
        load_prompt("nope")


def test_prompt_ref_identity_is_the_text_not_the_place(tmp_path: object) -> None:
    copy = f"{tmp_path}/copy.txt"
    with open(copy, "w") as handle:
        handle.write((FOLDER / "rewrite.v1.txt").read_text())
    assert PromptRef(name=copy).identity() == PromptRef(name="rewrite.v1").identity()


def test_teacher_prompt_is_the_papers() -> None:
    assert load_prompt("teacher.v1").render(reference="R", question="Q") == (
        "Background reference knowledge: R\n"
        "Answer the question based on the reference knowledge: Q\n"
        "Answer:"
    )
