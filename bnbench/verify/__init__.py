"""Judges a batch norm layer that someone wrote, on any torch module: `bnbench verify my_layer.py:MyBatchNorm`.

reference.py   float64 NumPy, from the paper's equations: what is right
formulas.py    the same equations with one thing changed: what each usual mistake would give
causes.py      the table of usual mistakes, and the search for the one that fits what was seen
target.py      finds and makes the layer; parts.py finds its gamma, beta and running statistics
subject.py     one layer on one shape of input, and what can be seen of it
checks/        one function a check
checklist.py   the list that they enter
outcome.py     how a check ends
judge.py       runs the checks; findings.py is what comes out (and does not reach torch)
"""
