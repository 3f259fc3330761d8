"""Findings by their names: files, or those that come with bnbench. Read without torch; studies are checked later."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.analysis.findings.finding import Finding
from bnbench.analysis.findings.reading import FindingReader
from bnbench.api.shipped import STUDIES, find_study, is_readable
from bnbench.base.errors import ConfigError, Mistake, nearest
from bnbench.base.files import hash_of
from bnbench.study import name_fault
from bnbench.study.yaml_source import Path_, Source, read_file

FINDINGS = STUDIES / "findings"
#: What changes no number of a seed.
_NOT_HASHED = ("seeds", "name", "description")


@dataclass(frozen=True)
class Asked:
    """A finding as its file has it.

    study: as it is written, a source; study_path: the file that it stands in. places: of each claim's quantity.
    mistakes: of the file, but for its study, which needs more to be checked.
    """

    finding: Finding
    study: Source
    study_path: Path
    places: Mapping[str, str]
    mistakes: tuple[Mistake, ...] = ()


def shipped_findings() -> list[Path]:
    """The findings that come with bnbench, by name."""
    return sorted(FINDINGS.glob("*.yaml"))


def find_finding(name: str) -> Path:
    """A file, or the name of a shipped finding. Raises ConfigError with the nearest name."""
    path = Path(os.path.expanduser(name))
    shipped = {file.stem: file for file in shipped_findings()}
    if path.name == name and path.stem in shipped and not is_readable(path):
        return shipped[path.stem]
    if is_readable(path):
        return path
    if path.is_dir():
        raise ConfigError([Mistake(name, "it is a folder. Fix: name the YAML file in it.")])
    guess = nearest(path.stem, shipped)
    hint = f' Did you mean "{guess}"?' if guess else ""
    known = ", ".join(shipped) or "none"
    raise ConfigError([Mistake(name, f"no such finding.{hint} Shipped: {known}; or name a YAML file.")])


def read_findings(names: Sequence[str]) -> tuple[list[Asked], list[Mistake]]:
    """Every finding with these names, and the mistakes of all, also where two have one name."""
    asked: dict[str, Asked] = {}
    mistakes: list[Mistake] = []
    for name in dict.fromkeys(names):
        try:
            path = find_finding(name)
            one = read_asked(path, "" if path.parent == FINDINGS else name)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if one.finding.name in asked:
            why = f'a second finding named "{one.finding.name}": give its file another name.'
            mistakes.append(Mistake(name, why))
        asked[one.finding.name] = one
        mistakes += one.mistakes
    mistakes += _two_studies(list(asked.values()))
    return list(asked.values()), mistakes


def _two_studies(asked: Sequence[Asked]) -> Iterator[Mistake]:
    """Findings with different studies of one name: they would share a folder."""
    first: dict[str, Asked] = {}
    for one in asked:
        other = first.setdefault(one.finding.study_name, one)
        if other.finding.study_hash != one.finding.study_hash:
            message = (
                f'its study is named "{one.finding.study_name}", as another one of {other.finding.name} is: '
                "give one of the files another name."
            )
            yield Mistake(one.finding.path or one.finding.name, message)


def read_finding(path: Path, given: str) -> Finding:
    """One finding, its study not checked. given: the file as the user named it. Raises ConfigError."""
    asked = read_asked(path, given)
    if asked.mistakes:
        raise ConfigError(asked.mistakes)
    return asked.finding


def read_asked(path: Path, given: str) -> Asked:
    """One finding with its mistakes. Raises ConfigError where the file can't be read at all."""
    try:
        source = read_file(path)
    except ConfigError as error:
        raise ConfigError([_of_a_finding(mistake) for mistake in error.mistakes]) from None
    reader = FindingReader(source)
    citation, claims, deviations = reader.citation(), reader.claims(), reader.deviations()
    study, study_path = _study(source, path, reader)
    if fault := name_fault(path.stem):
        reader.mistakes.append(Mistake(str(path), f"{path.stem!r} can't be a finding's name: {fault}."))
    cpu_seconds = reader.fields.number("cpu_seconds", 0)
    why = reader.fields.text("why", "a sentence", required=False)
    study_name = path.stem if study_path == path else study_path.stem
    finding = Finding(
        name=path.stem,
        citation=citation,
        claims=claims,
        deviations=deviations,
        study_name=study_name,
        study_hash=hash_of({key: value for key, value in study.data.items() if key not in _NOT_HASHED}, 12),
        data=_data(study.data),
        cpu_seconds=cpu_seconds,
        why=why,
        path=given,
    )
    places = {claim.name: _place(source, claim.name, "quantity") for claim in claims}
    return Asked(finding, study, study_path, places, tuple(dict.fromkeys(reader.mistakes)))


def _of_a_finding(mistake: Mistake) -> Mistake:
    """What the reader of studies says, of a finding."""
    message = mistake.message.replace("a study is", "a finding is").replace(
        "dataset: mnist", "citation: {...}"
    )
    return Mistake(mistake.place, message)


def _place(source: Source, claim: str, key: str) -> str:
    return source.place(("claims", claim, key) if claim else (key,))


def _study(source: Source, path: Path, reader: FindingReader) -> tuple[Source, Path]:
    """The study of a finding: inside it, in a file beside it, or a shipped one."""
    given = source.data.get("study")
    if isinstance(given, Mapping) and given:
        return _inner(source, ("study",)), path
    if isinstance(given, str) and given.strip():
        beside = path.parent / given
        try:
            found = beside if is_readable(beside) else find_study(given)
            return read_file(found), found
        except ConfigError as error:
            reader.fields.wrong("study", f"{given!r}: {error.mistakes[0].message}")
    else:
        problem = "it is missing" if given is None else f"{given!r} is wrong"
        reader.fields.wrong(
            "study",
            f"{problem}. Fix: a study, as in study: {{dataset: mnist, model: mlp, ...}}, or its file.",
        )
    return Source(), path


def _inner(source: Source, prefix: Path_) -> Source:
    """A mapping inside a file as a source of its own, with the lines that its keys have in the file."""
    data: Any = source.data
    for key in prefix:
        data = data[key]
    depth = len(prefix)
    places = {path[depth:]: place for path, place in source.places.items() if path[:depth] == prefix}
    return Source(data, places, [], set(source.unreadable))


def _data(study: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the data sets in a study, as they are written."""
    variants = study.get("variants")
    levels = [study, *(variants.values() if isinstance(variants, Mapping) else ())]
    found = [level["dataset"] for level in levels if isinstance(level, Mapping) and level.get("dataset")]
    names = [str(one.get("name", "")) if isinstance(one, Mapping) else str(one) for one in found]
    return tuple(dict.fromkeys(name for name in names if name))
