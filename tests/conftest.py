"""Shared by all tests."""

import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

# Spinning OpenMP threads beside a busy neighbour make tiny passes twenty times slower: one thread per test process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Who runs tests in the background may have them, and what they start, ignore Ctrl-C; some tests are about it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"
"""Recordings and texts that aren't part of the project; those who develop it may have them beside it."""

_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


_CACHES = {"HF_HOME": "huggingface"}
"""What tests only read in the user's cache stays there: variable → folder."""

if sys.platform == "linux":  # elsewhere these don't ask for XDG_CACHE_HOME
    _CACHES |= {"PLAYWRIGHT_BROWSERS_PATH": "ms-playwright", "MPLCONFIGDIR": "matplotlib", "PIP_CACHE_DIR": "pip"}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Keep what is worked out for this machine, such as the compiled pass, in a folder of this run's own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own, patch = tempfile.mkdtemp(prefix="streamtrans-tests-"), pytest.MonkeyPatch()
    for variable, folder in _CACHES.items():
        patch.setenv(variable, os.environ.get(variable, str(cache / folder)))
    patch.setenv("XDG_CACHE_HOME", own)
    config.add_cleanup(patch.undo)
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips", action="store_true", help="A test that is skipped has failed, unless it needs a GPU."
    )


def pytest_collection_modifyitems(config, items):
    """Leave out what there is nothing for: no shared data, or of kinds to choose from none that this processor has."""
    nothing = [item for item in items if _lacks_data(item) or _lacks_cases(item)]
    config.hook.pytest_deselected(items=nothing)
    items[:] = [item for item in items if item not in nothing]


def _lacks_data(item):
    return not SHARED.is_dir() and item.get_closest_marker("shared") is not None


def _lacks_cases(item):
    return any(
        str(mark.kwargs.get("reason")).startswith("got empty parameter set") for mark in item.iter_markers("skip")
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
    if skipped and item.config.getoption("no_skips") and item.get_closest_marker("gpu") is None:
        report.outcome, report.longrepr = "failed", f"skipped, which nothing may be here: {call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.outcome == "skipped" and collector.config.getoption("no_skips"):
        report.outcome, report.longrepr = "failed", f"skipped, which nothing may be here: {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True, scope="session")
def as_the_processor_is_hidden():
    """Where oneDNN is told to use fewer instructions than there are, torch's own probes must not find more."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA") not in _WITHOUT_BFLOAT16:
        yield
        return
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        yield


@pytest.fixture(autouse=True)
def logs_end_with_their_test():
    """What a program logs to is the test's own: the next one would write to a stream that is closed."""
    before, level = logging.root.handlers[:], logging.root.level
    yield
    for handler in logging.root.handlers[:]:
        if handler not in before and not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
    logging.root.setLevel(level)
