"""`bnbench merge`: results folders of one study, from several machines, become one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_NOT_EVERYTHING
from bnbench.base.terminal import echo
from bnbench.base.words import ENGLISH
from bnbench.cli.display import TABLE, Display
from bnbench.cli.errors import Errors
from bnbench.cli.options import Debug, FailIf, FormatOption, LanguageOption, Quiet, TablesOption, user_path

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Results folders of one study, or folders that hold results folders.",
        parser=user_path,
    ),
]
MergedFolder = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        parser=user_path,
        metavar="PATH",
        help="The merged folder: a new one, or the one of an earlier merge.",
    ),
]


def merge(
    folders: Folders,
    output: MergedFolder,
    format: FormatOption = TABLE,
    tables: TablesOption = None,
    fail_if: FailIf = None,
    lang: LanguageOption = ENGLISH,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Put results folders of one study together, such as those of --shard, and show the answer.

    A run that lies in two of them with equal numbers is there once. Two different results of a run are an error, as
    are folders of different studies: then nothing is written. Planned runs that are missing exit with 5.
    """
    with Errors(debug):
        from bnbench.api.merge import prepare_merges, write_merges
        from bnbench.cli.report import show_folders

        merges = prepare_merges(folders, output)
        for one in merges:
            for remark in one.remarks:
                echo(f"Note: {remark}", err=True)
        write_merges(merges, folders, output)
        if not quiet:
            for one in merges:
                echo(f"{one.output}: {len(one.runs)} runs of {len(one.sources)} folders.", err=True)
        shown = [output] if (output / "claims.json").exists() else [one.output for one in merges]
        code = show_folders(
            shown,
            Display(format, tables, quiet, language=lang),
            fail_if=fail_if or (),
            figures=None,
            kind="svg",
        )
        missing = [one for one in merges if one.missing and not one.plan["looks"]]
        for one in missing:
            study = shlex.quote(str(one.output / "study.yaml"))
            echo(
                f"What is missing: bnbench compare {study} --output {shlex.quote(str(one.output))}", err=True
            )
        raise typer.Exit(EXIT_NOT_EVERYTHING if missing and code == EXIT_DONE else code)
