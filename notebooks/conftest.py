"""Notebook tests compare every stored output but stderr, where warnings of libraries may appear."""

import os

os.environ["IQA_PROGRESS"] = "off"  # for the kernels, which inherit it: nobody watches their progress bars


def pytest_collectstart(collector):
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
