"""The steps of a normalizer with their numbers, as text, Markdown and LaTeX: `bnbench explain`.

formulas.py has the formulas in the letters of the papers, blocks.py puts them beside the numbers, and formats.py
writes them.
"""
