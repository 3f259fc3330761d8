"""The census of `convert`: how many architectures of the zoos convert, or are refused with a reason; none silently.

usage: python tests/benchmarks/census.py [torchvision] [timm] [hf] [--to group] [--timm 420] [--minutes 20]
           [--structure] [--five] [--again] [--json census.json] [--write]

Architectures that the JSON file has already are not judged again, so that a run goes on where it was stopped.
--write puts the tables into docs/census.md and the numbers into docs/results/census.json. Needs timm and transformers
for their zoos. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from census_judge import add_numbers, judge, record
from census_tables import write_page
from census_zoo import zoo

from bnbench.base.files import write_whole

ZOOS = ("torchvision", "timm", "hf")
JSON = Path(__file__).with_name("census.json")
PAGE = Path(__file__).parents[2] / "docs" / "census.md"


def main() -> int:
    """The exit code: 1 where something is silent or a proof fails."""
    options = _options()
    path = Path(options.json)
    content = json.loads(path.read_text()) if path.exists() else {"to": options.to, "found": []}
    end = time.monotonic() + 60 * options.minutes
    if options.again:
        content["found"] = [one for one in content["found"] if one["outcome"] not in ("silent", "failed")]
    done = {(one["zoo"], one["name"]) for one in content["found"]}
    if options.five:
        return _five(content, path, options, end)
    for name in options.zoos or ZOOS:
        for architecture in zoo(name, options.timm):
            if (name, architecture.name) in done:
                continue
            if time.monotonic() > end:
                print("stopped: no time left; the same command goes on", file=sys.stderr)
                return _end(content, path, options)
            found = judge(architecture, options.to, full=not options.structure)
            content["found"].append(record(found))
            print(_line(content["found"][-1]), flush=True)
            if len(content["found"]) % 10 == 0:
                _write(content, path)
    return _end(content, path, options)


def _five(content: dict[str, Any], path: Path, options: argparse.Namespace, end: float) -> int:
    """All five proofs for architectures of which only the structure was judged, the quickest first."""
    by_name = {(a.zoo, a.name): a for name in options.zoos or ZOOS for a in zoo(name, 10**6)}
    waiting = [
        index
        for index, one in enumerate(content["found"])
        if one["sites"]
        and not one["full"]
        and not one["why_not_full"].startswith(("it takes", "more"))
        and (one["zoo"], one["name"]) in by_name
    ]
    for number, index in enumerate(sorted(waiting, key=lambda index: content["found"][index]["sites"])):
        if time.monotonic() > end:
            break
        one = content["found"][index]
        content["found"][index] = add_numbers(by_name[one["zoo"], one["name"]], options.to, one)
        print(_line(content["found"][index]), content["found"][index]["why_not_full"], flush=True)
        if number % 10 == 9:
            _write(content, path)
    return _end(content, path, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zoos", nargs="*", choices=[*ZOOS, []])
    parser.add_argument("--to", default="group")
    parser.add_argument("--timm", type=int, default=420, help="architectures of timm")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--structure", action="store_true", help="proofs 1 and 4 alone")
    parser.add_argument("--json", default=str(JSON))
    parser.add_argument("--five", action="store_true", help="all five proofs, after --structure")
    parser.add_argument("--again", action="store_true", help="judge those again that were silent or failed")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/census.md")
    return parser.parse_args()


def _write(content: dict[str, Any], path: Path) -> None:
    """One architecture a line."""
    content["versions"] = {"python": platform.python_version(), "torch": torch.__version__, **_installed()}
    order = sorted(content["found"], key=lambda one: (ZOOS.index(one["zoo"]), one["name"]))
    lines = ",\n".join(map(json.dumps, order))
    head = json.dumps({key: value for key, value in content.items() if key != "found"})[:-1]
    write_whole(path, f'{head}, "found": [\n{lines}\n]}}\n')


def _installed() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torchvision", "timm", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _end(content: dict[str, Any], path: Path, options: argparse.Namespace) -> int:
    _write(content, path)
    if options.write:
        write_page(json.loads(path.read_text()), PAGE)
    bad = [one for one in content["found"] if one["outcome"] in ("silent", "failed")]
    print(f"{len(content['found'])} architectures, {len(bad)} silent or failed")
    return int(bool(bad))


def _line(one: dict[str, Any]) -> str:
    text = f"{one['outcome']:12} {one['zoo']}:{one['name']} sites {one['sites']} {one['actions']} {one['seconds']} s"
    more = [*one["silent"][:3], *one["failed"], one["crash"], one["error"]]
    return text + "".join(f"\n    {line}" for line in more if line)


if __name__ == "__main__":
    sys.exit(main())
