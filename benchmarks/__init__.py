"""Benchmarks of tensometer against its peers: `python -m benchmarks`, or `pytest benchmarks --benchmark-only`."""

import os

# NumPy's OpenBLAS reads these when it is loaded. The first two force a kernel choice (a slow one on some machines)
# on np.dot and np.linalg.norm, which would flatter every ratio against NumPy; the last keeps NumPy on one thread,
# like its other reductions.
os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_L2_SIZE", None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"
