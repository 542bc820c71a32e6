"""Units that follow a number, with what they measure; equal quantities are equal in any unit."""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """What is measured, and how many of the first unit of its kind this one is."""

    measures: str
    factor: float


PERCENT = Unit("percent", 1)
FOLD = Unit("fold", 1)
EURO = Unit("euros", 1)

# One line a kind: symbols and words = factor. Symbols of one letter are read as they are written.
_KINDS: dict[str, dict[str, float]] = {
    "length": {
        "m metre metres meter meters": 1, "km kilometre kilometres kilometer kilometers": 1e3,
        "cm centimetre centimetres centimeter centimeters": 1e-2,
        "mm millimetre millimetres millimeter millimeters": 1e-3,
        "μm um micrometre micrometres micrometer micrometers micron microns": 1e-6,
        "nm nanometre nanometres nanometer nanometers": 1e-9,
        "mile miles mi": 1609.344, "yard yards yd": 0.9144, "foot feet ft": 0.3048,
        "inch inches": 0.0254,
    },
    "mass": {
        "g gram grams gramme grammes": 1, "kg kilogram kilograms kilo kilos": 1e3,
        "mg milligram milligrams": 1e-3, "μg ug mcg microgram micrograms": 1e-6,
        "ng nanogram nanograms": 1e-9, "tonne tonnes": 1e6, "ton tons": 907184.74,
        "ounce ounces oz": 28.349523125,
    },
    # Mass and currency in one: the word "pound" does not tell which it is.
    "pounds": {"pound pounds lb lbs £ gbp": 1},
    "volume": {
        "l L litre litres liter liters": 1,
        "ml mL millilitre millilitres milliliter milliliters": 1e-3,
        "dl dL decilitre decilitres deciliter deciliters": 0.1,
        "μl μL ul microlitre microlitres microliter microliters": 1e-6,
        "gallon gallons": 3.785411784, "pint pints": 0.473176473, "cup cups": 0.2365882365,
    },
    "time": {
        "s sec secs second seconds": 1, "ms msec millisecond milliseconds": 1e-3,
        "min mins minute minutes": 60, "h hr hrs hour hours": 3600, "d day days": 86400,
        "wk wks week weeks": 604800,
    },
    "months": {"mo mos month months": 1, "y yr yrs year years": 12, "decade decades": 120},
    "rate": {"mph": 1.609344, "kmh km/h kph": 1},
    "energy": {"J joule joules": 1, "kJ kilojoule kilojoules": 1e3, "kcal": 4184},
    "power": {"W watt watts": 1, "kW kilowatt kilowatts": 1e3, "MW megawatt megawatts": 1e6},
    "frequency": {"Hz hertz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "voltage": {"V volt volts": 1, "mV millivolt millivolts": 1e-3, "kV": 1e3},
    "pressure": {"Pa": 1, "kPa": 1e3, "mmHg": 133.322},
    "amount": {"mol mole moles": 1, "mmol millimole millimoles": 1e-3, "μmol umol": 1e-6},
    "concentration": {"mM": 1e-3, "μM uM": 1e-6, "nM": 1e-9},
    "celsius": {"°c celsius": 1}, "fahrenheit": {"°f fahrenheit": 1},
    "bytes": {"KB kilobyte kilobytes": 1, "MB megabyte megabytes": 1e3,
              "GB gigabyte gigabytes": 1e6, "TB terabyte terabytes": 1e9},
    "dollars": {"$ usd dollar dollars": 1, "cent cents": 0.01}, "euros": {"€ eur euro euros": 1},
    "yen": {"¥ jpy yen": 1}, "rupees": {"₹ inr rupee rupees": 1},
    "percent": {"% percent pct percentage prozent procent": 1},
    "before noon": {"a.m.": 1}, "after noon": {"p.m.": 1},
    "fold": {"fold times": 1},
}  # fmt: skip

UNITS = {
    name: Unit(kind, factor)
    for kind, sizes in _KINDS.items()
    for names, factor in sizes.items()
    for name in names.split()
}
_ANY_CASE = {name.casefold(): unit for name, unit in reversed(UNITS.items()) if len(name) > 1}


def unit_of(word: str) -> Unit | None:
    """Return the unit that a word or symbol names; case decides only where it matters."""
    return UNITS.get(word) or (_ANY_CASE.get(word.casefold()) if len(word) > 1 else None)
