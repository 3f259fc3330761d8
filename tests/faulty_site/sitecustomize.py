"""With this folder on PYTHONPATH, every Python process installs the faults that the environment asks for."""

import os
import runpy

if "BNBENCH_TEST_FAULT" in os.environ:
    _here = os.path.dirname(os.path.abspath(__file__))
    runpy.run_path(os.path.join(os.path.dirname(_here), "faulty_disk.py"))["install"]()
