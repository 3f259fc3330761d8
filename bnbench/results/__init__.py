"""The results folder: every file name, the schema, whole-or-nothing writes, and a tolerant reader.

    study.yaml         the resolved study: every default written out; it can be run again
    plan.json          which runs belong to it: cells (variant x setting of the sweep) and seeds
    environment.json   the versions, machine and command that every run was trained with
    summary.json       what the tables show, and every run with its outcome
    summary.csv        one row a run
    samples/           a picture for each variant that the report shows, where there are any
    report.html        the figures and tables, one file that needs nothing else
    runs/<variant>-<cell>/seed-<n>/
        run.json       identity, outcome, final and best metrics, timings
        history.csv    one row an evaluation
        steps.csv      the objective of every step's batch
        checkpoint.safetensors   the last weights
        probes.csv     what its probes measured inside the network, where the study has `probe`
        samples.png    what its network makes in the end, where its task makes images (see sheets.py)
        test_samples.safetensors   right or wrong, and the loss, of each test sample in the end
    .states/           the states of runs that are under way, while there are any

A folder answers one question (`question.py`). A run's folder is named after the hash of what identifies it, and takes
its place in one step (`placing.py`).
With several studies, workloads.json beside their folders holds the joint summary.
Plain text, tensors and pictures only: nothing here can run code when it is read.
"""

from bnbench.results.contents import Cell, StudyResults
from bnbench.results.files import REPORT, SCHEMA_VERSION, SUMMARY_CSV, SUMMARY_JSON, WORKLOADS_JSON
from bnbench.results.folder import ResultsFolder
from bnbench.results.probes import PROBES

__all__ = [
    "PROBES",
    "REPORT",
    "SCHEMA_VERSION",
    "SUMMARY_CSV",
    "SUMMARY_JSON",
    "WORKLOADS_JSON",
    "Cell",
    "ResultsFolder",
    "StudyResults",
]
