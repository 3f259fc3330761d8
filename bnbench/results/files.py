"""The names of the files in a results folder, and the version of their schema."""

SCHEMA_VERSION = 1

STUDY, PLAN, ENVIRONMENT = "study.yaml", "plan.json", "environment.json"
#: The joint summary of the studies whose folders stand beside it.
WORKLOADS_JSON = "workloads.json"
SUMMARY_JSON, SUMMARY_CSV, REPORT = "summary.json", "summary.csv", "report.html"
#: Of large folders: what was shown last, and what it was computed from.
ANSWER = ".answer.json"
#: The folder of all runs, and the files of each.
RUNS = "runs"
RUN, HISTORY, STEPS, CHECKPOINT = "run.json", "history.csv", "steps.csv", "checkpoint.safetensors"
#: The folder of the states of runs that are under way. No reader of runs looks there.
STATES = ".states"
