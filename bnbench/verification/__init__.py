"""Judges a batch norm layer that someone wrote, on any torch module: `bnbench verify my_layer.py:MyBatchNorm`.

reference.py    float64 NumPy, from the paper's equations: what is right
formulas.py     the same equations with one thing changed: what each usual mistake would give
solve.py        eps and momentum as the layer really uses them
conventions.py  the eps and momentum that it is held to
rules.py        what a layer is held against, and when a number is off
cause.py        a mistake: a change of the formula, and the words for it
causes.py       the usual mistakes, with those of cause_table.py; fit.py finds the one that fits the layer's numbers
target.py       finds and makes the layer
tensors.py      every tensor that it holds, registered or not
parts.py        its gamma, beta and running statistics; hidden.py sees statistics that are among no tensors
refusals.py     which inputs it takes at all
subject.py      one layer on one shape of input, and what can be seen of it
checks/         one function a check
checklist.py    the list that they enter
outcome.py      how a check ends
judge.py        runs the checks
parent.py       has that done in a process of its own, whose program is child.py
process.py      the settings of that process, put back after each check
padding.py      another question: what padding, other samples and later positions change; dependence.py has the answer
wishes.py       what the user asked for
findings.py     what comes out (dependence.py, wishes.py and this do not reach torch)
"""
