"""Honest paraphrases pass, the same texts with a fact changed do not. Pairs are of many domains."""

from __future__ import annotations

import pytest

from raft_core.facts.guard import Claim, GuardConfig
from raft_core.facts.rules import check_rules

# (reference, honest paraphrase, changed text, rule that names the change)
PAIRS = [
    (
        "There was no significant difference in survival between the two groups.",
        "Survival in the two groups did not differ significantly.",
        "Survival in the two groups differed significantly.",
        "negation_changed",
    ),
    (
        "The new regimen failed to improve glycaemic control in elderly patients.",
        "Glycaemic control in elderly patients did not improve with the new regimen.",
        "Glycaemic control in elderly patients improved with the new regimen.",
        "negation_changed",
    ),
    (
        "The treaty was signed on 12 March 1921 in Riga.",
        "In Riga, the treaty was signed on March 12th, 1921.",
        "In Riga, the treaty was signed on March 21st, 1921.",
        "number_changed",
    ),
    (
        "Exposure raised the risk of asthma 3-fold.",
        "The risk of asthma showed a threefold rise after exposure.",
        "The risk of asthma showed a fourfold rise after exposure.",
        "number_changed",
    ),
    (
        "Most patients recover within 5-10 days of treatment.",
        "Within 5 to 10 days of treatment, most patients recover.",
        "Within 5 to 12 days of treatment, most patients recover.",
        "number_changed",
    ),
    (
        "Mix cement and sand in a ratio of 1:3 before adding water.",
        "Before water is added, cement and sand are mixed 1 to 3.",
        "Before water is added, cement and sand are mixed 3 to 1.",
        "number_changed",
    ),
    (
        "Mortality fell by 12% (P = 0.03) under the programme.",
        "Under the programme mortality was reduced by 12 percent (p=.03).",
        "Under the programme mortality was reduced by 12 percent (p=.3).",
        "number_changed",
    ),
    (
        "The tunnel runs for 57 km under the Alps.",
        "Under the Alps, the tunnel is 57 kilometres long.",
        "Under the Alps, the tunnel is 57 metres long.",
        "number_changed",
    ),
    (
        "Roosevelt was the 32nd president and the only one elected to a fourth term.",
        "The only president elected to a 4th term, Roosevelt was the 32nd.",
        "The only president elected to a 5th term, Roosevelt was the 32nd.",
        "number_changed",
    ),
    (
        "Venice is one of the most visited cities in Italy.",
        "Among the cities of Italy, Venice is visited most often.",
        "Among the cities of Italy, Verona is visited most often.",
        "name_changed",
    ),
    (
        "The company reported revenue of $1,250,000 and two acquisitions in 2019.",
        "In 2019 the company made 2 acquisitions and had $1.25 million in revenue.",
        "In 2019 the company made 2 acquisitions and had $1.25 billion in revenue.",
        "number_changed",
    ),
    (
        "Magnetic resonance imaging is preferred over CT for the spine.",
        "For the spine, MRI is to be preferred over CT.",
        "For the spine, MRI is to be preferred over PET.",
        "name_changed",
    ),
    (
        "The tenant may not sublet the flat without the landlord's consent.",
        "Without consent of the landlord, subletting the flat isn't allowed to the tenant.",
        "The tenant may sublet the flat without the landlord's consent.",
        "negation_changed",
    ),
    (
        "Section 12 of the Act applies to contracts of at least six months.",
        "Contracts that last 6 months or longer fall under Section 12 of the Act.",
        "Contracts that last 6 months or longer fall under Section 21 of the Act.",
        "number_changed",
    ),
    (
        "Mutations of BRCA1 but not of TP53 were found in half of the tumours.",
        "In 50% of tumours, BRCA1 was mutated, but TP53 was not.",
        "In 50% of tumours, BRCA2 was mutated, but TP53 was not.",
        "name_changed",
    ),
    (
        "Yes, the function returns None if the key is missing.",
        "Yes: where the key is missing, None is returned by the function.",
        "No, the function returns None if the key is missing.",
        "answer_changed",
    ),
    (
        "Temperatures in Yakutsk drop to -40 °C in January.",
        "In January, temperatures of minus 40 °C are reached in Yakutsk.",
        "In January, temperatures of 40 °C are reached in Yakutsk.",
        "number_changed",
    ),
    (
        "Turkish exports to Germany grew from 15 to 18 billion euros.",
        "Exports of Turkey to Germany rose from €15 billion to €18 billion.",
        "Exports of Turkey to Germany went from €18 billion to €15 billion.",
        "number_changed",
    ),
    (
        "There is no evidence that vitamin C prevents colds. It may shorten them by 8%.",
        "Vitamin C may shorten colds by 8%, but evidence that it prevents them is lacking.",
        "Vitamin C may shorten colds by 8%, and there is evidence that it prevents them.",
        "negation_changed",
    ),
    (
        "Water boils at 100 °C at sea level, and at 93 °C in Denver.",
        "At sea level the boiling point of water is 100 degrees Celsius; in Denver it's 93 °C.",
        "At sea level the boiling point of water is 100 degrees Celsius; in Denver it's 39 °C.",
        "number_changed",
    ),
    (
        "Two thirds of voters supported the measure, which never came into force.",
        "The measure never took effect although 2/3 of voters supported it.",
        "The measure never took effect although 1/3 of voters supported it.",
        "number_changed",
    ),
    (
        "The marathon is 42.195 km long and was first held in Athens.",
        "First held in Athens, the marathon covers 42,195 m.",
        "First held in Athens, the marathon covers 42,195 km.",
        "number_changed",
    ),
    (
        "Neither aspirin nor heparin reduced the rate of stroke.",
        "The rate of stroke was not reduced by aspirin or by heparin.",
        "The rate of stroke was reduced by both aspirin and heparin.",
        "negation_changed",
    ),
    (
        "It doesn't matter which compiler is used, although GCC is faster.",
        "Which compiler is used does not matter; GCC is faster, though.",
        "Which compiler is used does matter; GCC is faster, though.",
        "negation_changed",
    ),
]  # fmt: skip


def failures(reference: str, text: str) -> dict[str, str]:
    return check_rules(Claim("", reference, text), GuardConfig())


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1][:40])
def test_paraphrase_honest_one_passes_changed_one_fails(pair: tuple[str, str, str, str]) -> None:
    reference, honest, changed, rule = pair
    assert failures(reference, honest) == {}
    assert rule in failures(reference, changed)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1][:40])
def test_paraphrase_original_is_one_of_its_paraphrase(pair: tuple[str, str, str, str]) -> None:
    reference, honest, _, _ = pair
    assert failures(honest, reference) == {}
