"""The offline set: complete, repeatable, and labelled with KADID-10k's cell means."""

import numpy as np
import torch

import data_download
from data_download.made import offline
from data_download.made.kadid_cells import kadid_cells, kadid_scores
from iqa_core import distortions, metrics


def test_every_cell_is_met_and_carries_its_human_mean():
    dataset = data_download.load("offline")
    table = dataset.table
    assert len(table) == 18 * 25 * 2 and table["content"].nunique() == 18
    cells = table.groupby(["distortion", "level"])["raw_score"].agg(["size", "nunique", "first"])
    assert len(cells) == 125 and cells["size"].min() >= 5 and (cells["nunique"] == 1).all()
    wanted = kadid_cells().set_index(["name", "level"])["mean"]
    assert np.allclose(cells["first"], wanted.loc[cells.index], atol=1e-4)
    assert dataset.card.proxy and dataset.card.higher_better


def test_the_files_are_what_the_bank_makes():
    dataset = data_download.load("offline")
    rows = dataset.table.query("content == 'coffee' and distortion in ('jpeg', 'lens_blur', 'mean_shift')")
    for i in rows.index:
        row = rows.loc[i]
        again = distortions.distort(offline.reference("coffee")[None], row["distortion"], int(row["level"]))[0]
        assert (again - dataset.image(i)).abs().max() <= 0.51 / 255  # 8-bit rounding of the file


def test_references_are_shipped_images_of_one_size():
    pictures = torch.stack([offline.reference(name) for name in offline.CONTENTS])
    assert pictures.shape == (18, 3, 288, 384)
    assert pictures.flatten(1).std(1).min() > 0.05  # none is blank
    assert torch.equal(pictures[-1], offline.reference(offline.CONTENTS[-1]))


def test_cell_means_predict_kadids_own_scores():
    scores = kadid_scores()
    cell = scores.groupby(["type", "level"])["score"].transform("mean")
    assert metrics.srcc(cell, scores["score"]) > 0.93
