"""Notebook tests compare every stored output but stderr: progress bars appear there on a slow machine only."""


def pytest_collectstart(collector):
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
