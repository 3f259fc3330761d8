"""docs/census.md has the numbers of the census that is kept beside its command."""

import json
from pathlib import Path

import census_tables
from census_zoo import torchvision_zoo

PAGE = Path(__file__).parents[2] / "docs" / "census.md"
JSON = Path(census_tables.__file__).with_name("census.json")


def test_the_page_has_the_numbers_of_the_json():
    content = json.loads(JSON.read_text())
    text = PAGE.read_text()
    inside = text.partition(census_tables.START)[2].partition(census_tables.END)[0].strip()
    assert inside == census_tables.tables(content), "python tests/benchmarks/census.py --write"
    numbers = census_tables.summary(content["found"])
    assert numbers["silent"] == numbers["failed"] == 0
    assert numbers["timm"] >= 300
    assert numbers["hf"] >= 15
    assert numbers["torchvision"] == len(list(torchvision_zoo()))
