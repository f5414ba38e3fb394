"""Make weight.csv, height.csv and bmi.csv from the official CDC 2000 files; by hand, never at run time.

    python guideline/growth/generate.py DIRECTORY

DIRECTORY holds wtageinf.csv, wtage.csv, lenageinf.csv, statage.csv and bmiagerev.csv, fetched from
https://www.cdc.gov/growthcharts/cdc-data-files.htm and left as they are: each file is checked against its
SHA-256 before a number is read. Method and licence: README.md beside this file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Final, NamedTuple

SHA256: Final[Mapping[str, str]] = {
    "wtageinf.csv": "73221dd4de82eb9a70c1e6dd45c9b9e285fa1a3d7fff4971c3b85c1be6e5feed",
    "wtage.csv": "3406c9d125bcb69c062a9e84eb8c0209bfe9346542bdc1d308643750dcc241b7",
    "lenageinf.csv": "a334b86bc0ecde80d12cdc172dde17b4390ca53ac372b26dd0d72d8502ac2687",
    "statage.csv": "45130d2a9d7c50c54a47e7ba626b66c61d4554bc2d901198cedd9419a53f7251",
    "bmiagerev.csv": "cbeea0e8d500ee15c652f3fdc45bcd02cb9c15d4d1e86f4d8048bbfea8d166e5",
}
SEX: Final = {"1": "male", "2": "female"}
FIRST_STATURE_MONTH: Final = 24
MONTHS: Final = 240
SD: Final = Decimal(4)
CENT: Final = Decimal("0.01")
HALF_MONTH: Final = Decimal("0.5")


class Lms(NamedTuple):
    """Box-Cox power, median and coefficient of variation at one age and sex (Cole and Green 1992)."""

    power: Decimal
    median: Decimal
    variation: Decimal

    def at(self, z: Decimal) -> Decimal:
        """The measurement at z standard deviations."""
        if self.power == 0:
            return self.median * (self.variation * z).exp()
        return self.median * (1 + self.power * self.variation * z) ** (1 / self.power)


def restricted_limits(lms: Lms) -> tuple[Decimal, Decimal]:
    """Limits at 4 SD by CDC's modified z-score: its unit is half the distance from the median to +-2 SD.

    The plain formula is undefined this far out where the power is strongly negative. Rounded outwards.
    """
    low = lms.median - (lms.median - lms.at(Decimal(-2))) / 2 * SD
    high = lms.median + (lms.at(Decimal(2)) - lms.median) / 2 * SD
    return low.quantize(CENT, ROUND_FLOOR), high.quantize(CENT, ROUND_CEILING)


def read(path: Path) -> dict[tuple[str, int], Lms]:
    """The rows of a CDC file by sex and completed month: month m is the row of age m + 0.5."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise SystemExit(
            f"{path.name} is not the official file (SHA-256 differs); fetch it again, unchanged."
        )
    return parse(content.decode("utf-8-sig"))


def parse(text: str) -> dict[tuple[str, int], Lms]:
    """The rows of the text of a CDC file; the header stands again between the sexes."""
    rows: dict[tuple[str, int], Lms] = {}
    for row in csv.reader(io.StringIO(text)):
        if not row or row[0].strip() not in SEX:
            continue
        age = Decimal(row[1])
        if age % 1 == HALF_MONTH:
            rows[(SEX[row[0].strip()], int(age))] = Lms(Decimal(row[2]), Decimal(row[3]), Decimal(row[4]))
    return rows


def limit_rows(
    infant: Mapping[tuple[str, int], Lms], child: Mapping[tuple[str, int], Lms]
) -> Iterator[list[str]]:
    """One row for each sex and month: the infant file below 24 months, the other from there."""
    for sex in SEX.values():
        for month in range(MONTHS):
            low, high = restricted_limits((infant if month < FIRST_STATURE_MONTH else child)[(sex, month)])
            yield [sex, str(month), str(low), str(high)]


def centile_rows(bmi: Mapping[tuple[str, int], Lms]) -> Iterator[list[str]]:
    """The 98th centile of BMI for each sex and month from 24 on."""
    z = Decimal(repr(NormalDist().inv_cdf(0.98)))
    for sex in SEX.values():
        for month in range(FIRST_STATURE_MONTH, MONTHS):
            yield [sex, str(month), str(bmi[(sex, month)].at(z).quantize(CENT, ROUND_HALF_EVEN))]


def write(name: str, header: list[str], rows: Iterator[list[str]]) -> None:
    with (Path(__file__).parent / name).open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("Name the one directory that holds the CDC files: generate.py DIRECTORY")
    source = Path(arguments[0])
    if lacking := sorted(name for name in SHA256 if not (source / name).is_file()):
        raise SystemExit(
            f"{', '.join(lacking)} not found in that directory; fetch from the CDC page named above."
        )
    files = {name: read(source / name) for name in SHA256}
    header = ["sex", "month", "low", "high"]
    write("weight.csv", header, limit_rows(files["wtageinf.csv"], files["wtage.csv"]))
    write("height.csv", header, limit_rows(files["lenageinf.csv"], files["statage.csv"]))
    write("bmi.csv", ["sex", "month", "centile98"], centile_rows(files["bmiagerev.csv"]))


if __name__ == "__main__":
    main(sys.argv[1:])
