"""Paraphrases by hand that were written after the guard's rules, each with a fact changed.

They measure: no rule was corrected for one of them. Those that the rules were corrected for are
tests (`tests/unit/facts/test_paraphrases.py`).
"""

from __future__ import annotations

# (reference, paraphrase, the paraphrase with a fact changed)
PAIRS = [
    (
        "The Eiffel Tower, completed in 1889, is 330 metres tall and stands in Paris.",
        "Standing 330 m tall in Paris, the Eiffel Tower was finished in 1889.",
        "Standing 300 m tall in Paris, the Eiffel Tower was finished in 1889.",
    ),
    (
        "A tenant who does not pay rent within 14 days may be evicted.",
        "If rent is not paid within fourteen days, the tenant can be evicted.",
        "If rent is paid within fourteen days, the tenant can be evicted.",
    ),
    (
        "The vaccine was 94.1% effective and caused no serious side effects.",
        "With an efficacy of 94.1 percent, the vaccine had no severe side effects.",
        "With an efficacy of 91.4 percent, the vaccine had no severe side effects.",
    ),
    (
        "Insulin lowers blood glucose, whereas glucagon raises it.",
        "Glucagon raises blood glucose while insulin lowers it.",
        "Glucagon does not raise blood glucose while insulin lowers it.",
    ),
    (
        "The Supreme Court rejected the appeal by 6 votes to 3.",
        "By 6-3, the appeal was rejected by the Supreme Court.",
        "By 5-3, the appeal was rejected by the Supreme Court.",
    ),
    (
        "Apple was founded by Steve Jobs, Steve Wozniak and Ronald Wayne on April 1, 1976.",
        "Steve Jobs, Ronald Wayne and Steve Wozniak founded Apple on 1 April 1976.",
        "Steve Jobs, Ronald Reagan and Steve Wozniak founded Apple on 1 April 1976.",
    ),
    (
        "You should never mix bleach with ammonia.",
        "Bleach must not be mixed with ammonia.",
        "Bleach may be mixed with ammonia.",
    ),
    (
        "Children under 12 cannot ride alone.",
        "Kids younger than twelve may not ride without an adult.",
        "Kids younger than twelve may ride alone.",
    ),
    (
        "The algorithm runs in O(n log n) time and needs no extra memory.",
        "No additional memory is needed by the algorithm, whose running time is O(n log n).",
        "Additional memory is needed by the algorithm, whose running time is O(n log n).",
    ),
    (
        "HTTP 404 means that the server could not find the resource.",
        "When the server cannot find a resource, it answers with HTTP 404.",
        "When the server cannot find a resource, it answers with HTTP 403.",
    ),
    (
        "About three quarters of the Earth's surface is covered by water.",
        "Water covers roughly 75% of the surface of the Earth.",
        "Water covers roughly 57% of the surface of the Earth.",
    ),
    (
        "The patient had no history of diabetes and did not smoke.",
        "The patient was a non-smoker without a history of diabetes.",
        "The patient was a smoker with a history of diabetes.",
    ),
    (
        "Neither party disclosed the contract to the board.",
        "The contract was not disclosed to the board by either party.",
        "The contract was disclosed to the board by both parties.",
    ),
    (
        "GDP grew by 2.5% in the first quarter, up from 1.8%.",
        "In the first quarter, GDP growth was 2.5 percent, after 1.8 percent before.",
        "In the first quarter, GDP growth was 1.5 percent, after 1.8 percent before.",
    ),
    (
        "The results were not statistically significant (p = 0.12).",
        "Statistical significance was not reached (P=.12).",
        "Statistical significance was reached (P=.12).",
    ),
    (
        "It is unlikely that the company will meet its target of 10,000 units.",
        "The company will probably miss its target of 10 000 units.",
        "The company will probably meet its target of 10 000 units.",
    ),
    (
        "The kilogram is one of the seven base units of the SI.",
        "Among the 7 SI base units is the kilogram.",
        "Among the 8 SI base units is the kilogram.",
    ),
    (
        "Treatment with drug A reduced mortality, but drug B had no effect.",
        "Drug A lowered mortality; drug B did not have any effect.",
        "Drug B lowered mortality; drug A did not have any effect.",
    ),
    (
        "She sold 48 clips in April and half as many in May, 72 altogether.",
        "In April she sold 48 clips and in May half of that, which makes 72 in total.",
        "In April she sold 48 clips and in May half of that, which makes 70 in total.",
    ),
    (
        "Marie Curie won the Nobel Prize twice: in 1903 and in 1911.",
        "Marie Curie received two Nobel Prizes, in 1903 and 1911.",
        "Marie Curie received two Nobel Prizes, in 1903 and 1921.",
    ),
    (
        "The lease runs for 5 years and may be renewed once.",
        "The lease, which may be renewed one time, has a term of five years.",
        "The lease, which may not be renewed, has a term of five years.",
    ),
    (
        "The mean age was 54 years (range, 18-89).",
        "Patients were aged 18 to 89 years, with a mean of 54.",
        "Patients were aged 18 to 98 years, with a mean of 54.",
    ),
]
