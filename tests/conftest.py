"""Shared by all tests."""

import os

# Spinning OpenMP threads beside a busy neighbour make tiny passes twenty times slower: one thread per test process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
