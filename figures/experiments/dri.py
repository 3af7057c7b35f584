"""DRI-IQA judged: the ladder A0 to A6 with its controls, what q and g know, restoration; claims.

    python -m figures.experiments.dri [parts] [restorer] [probes] [bracket] [scores] [restored]
        [claims] [figure]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains on views of the images that
are computed once, full the default size end to end, both on 10 splits. `parts` trains the extractor
and the restorer that come with this kit, on CID22 without every eighth image, and writes them; it
is not needed again. `dri_measures.csv` holds what the ledger has no column for, a value a row:
- of the restorer: the PSNR (50 dB at most: beyond, nobody sees a difference) that it gains by type
  and level 0 to 5, on the images of CID22 that were left out; the same of a TV filter;
- of the extractor: how well type, level and content are decoded from its vectors, and the triplet
  test, for heads that were trained anew on 4 to 60 contents with several seeds;
- how well the full method and its predictor alone judge restored images: SRCC with MS-SSIM, on
  what the restorer makes of the test images and on these themselves;
- the bracket: what a ridge regression gains if it sees, beside the image, the change that a
  restorer made: none, a TV filter, ours, the perfect one, and mixtures of the last two.
The figure, dri.png, shows the bracket, the ladder and the restoration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from skimage.restoration import denoise_tv_chambolle
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import data_download
from figures import FOLDER, ledger, report, trainings
from iqa_core import comparisons, data, dri, dri_stages, frozen_maps, images, metrics
from iqa_core.data import Dataset, DatasetError
from iqa_core.distortions import TYPES, distort
from iqa_core.dri_extractor import Extractor, contrast, correlation, grid, relations
from iqa_core.frozen_maps import FrozenMaps
from iqa_core.reiqa_experts import knn_accuracy, probe
from iqa_core.reiqa_pretrain import Uint8Images
from lesson import plot

PAPER = "DRI-IQA"
SEEDS = range(10)
IMAGES = {"tid2013-kodak": {"quick": 900, "full": 10**9},  # at most so many
          "biq2021": {"quick": 1500, "full": 10**9}}
CONFIGS = {"quick": {"tid2013-kodak": dri.QUICK, "biq2021": dri.AUTHENTIC},
           "full": {name: dri.DRIConfig() for name in IMAGES}}
REMARKS = {"quick": "extractor and restorer small and frozen, lite0 from ImageNet, few epochs on a "
                    "CPU", "full": ""}
MOST_PSNR = 50.0  # dB
MEASURES = FOLDER / "dri_measures.csv"


def note(what: str, dataset: str, seed: int, values: dict[str, float]) -> None:
    """Write values into `dri_measures.csv`; older ones of the same name are replaced."""
    rows = [(what, dataset, seed, measure, value) for measure, value in values.items()]
    table = pd.DataFrame(rows, columns=["what", "dataset", "seed", "measure", "value"])
    ledger.merge(MEASURES, table.round(4), ["dataset", "what", "measure", "seed"])


def measured(what: str, dataset: str) -> pd.DataFrame:
    """Rows of `dri_measures.csv`."""
    rows = pd.read_csv(MEASURES)
    return rows[(rows["what"] == what) & (rows["dataset"] == dataset)]


def cid22() -> tuple[Dataset, Dataset]:
    """The images that extractor and restorer learn from, and every eighth, which is left out."""
    every = data_download.load("cid22")
    names = sorted(every.table["image"])
    left_out = every.table["image"].isin(names[::8])
    return every.subset(~left_out), every.subset(left_out)


def middle(dataset: Dataset, size: int) -> list[Tensor]:
    """The middle of every image, uint8 (3, size, size)."""
    return [images.crops(image, size, "grid", 1)[0] for image in Uint8Images(dataset)]


# --- extractor and restorer ----------------------------------------------------------------------

def parts(mode: str) -> None:
    """Train extractor and restorer as `dri.QUICK` says, and write the file of this kit."""
    config = dataclasses.replace(dri.QUICK, parts="")
    learned, _ = cid22()
    photographs = [*Uint8Images(learned)]
    net = dri.Network(config).to(memory_format=torch.channels_last)
    dri.train_extractor(net.extractor, photographs, config)
    dri.train_restorer(net.restorer, net.extractor, photographs, config)
    dri.save_parts(dri_stages.SHIPPED, net.extractor, net.restorer, learned, config)


def shipped() -> dri.DRIIQA:
    """A method of which only extractor and restorer are there."""
    method = dri.DRIIQA()
    method.net = method.build().eval()
    return method


def tv(x: Tensor, weight: float = 0.05) -> Tensor:
    """Images (B, 3, H, W), smoothed by total variation."""
    smooth = [denoise_tv_chambolle(one.permute(1, 2, 0).numpy(), weight, channel_axis=-1)
              for one in x.cpu()]
    return torch.from_numpy(np.stack(smooth)).permute(0, 3, 1, 2).to(x)


def eight_bits(x: Tensor) -> Tensor:
    return images.from_uint8(images.to_uint8(x))


def restorer(mode: str) -> None:
    """What the restorer and a TV filter gain in PSNR, by type and level, on images left out."""
    method = shipped()
    shown = middle(cid22()[1], 256)[:10]
    x_ref = images.from_uint8(torch.stack(shown))
    for name, change in (("restorer", method.restore), ("tv filter", tv)):
        values = {}
        for kind in [kind for group in dri.UNDONE for kind in group]:
            for level in range(1, 6):
                generator = torch.Generator().manual_seed(level)
                x = eight_bits(distort(x_ref, kind, level, generator))
                values[f"psnr {TYPES[kind - 1]} {level}"] = gain(change(x), x, x_ref)
        values["psnr undistorted 0"] = gain(change(x_ref), x_ref, x_ref)
        note(name, "cid22", 0, values)
        print(name, {key: round(value, 2) for key, value in values.items()}, flush=True)


def gain(restored: Tensor, x: Tensor, x_ref: Tensor) -> float:
    """PSNR after minus PSNR before, mean over images, in dB."""
    after, before = (metrics.psnr(eight_bits(z), x_ref).clamp(max=MOST_PSNR)
                     for z in (restored, x))
    return (after - before).mean().item()


# --- what the two vectors know -------------------------------------------------------------------

CONTENTS = (4, 8, 15, 30, 60)
PROBE_SEEDS = range(20)


@torch.inference_mode()
def moments(extractor: Extractor, x: Tensor) -> Tensor:
    """Moments of the frozen trunk's maps, (B, D)."""
    parts = [extractor.moments(extractor.trunk(few)) for few in x.split(32)]
    return torch.cat(parts).clone()


def sheets(extractor: Extractor, photographs: list[Tensor], degradations: int, count: int
           ) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Moments, contents and degradations of `count` grids with other degradations each."""
    made = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        x, contents, which = grid(photographs, degradations, dri.QUICK.patch, generator)
        made.append((moments(extractor, x), contents, which))
    return made


def heads(extractor: Extractor, made: list, contents: int, seed: int, steps: int = 300
          ) -> Extractor:
    """Train all that stands on the trunk anew, on so many contents: q and g, and their heads."""
    torch.manual_seed(seed)
    fresh = Extractor(dri.QUICK.trunk)
    fresh.trunk = extractor.trunk.requires_grad_(False)
    learned = [p for p in fresh.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-3)
    rng = np.random.default_rng(seed)
    most = int(made[0][1].max()) + 1
    mine = torch.from_numpy(rng.permutation(most)[:contents])
    fresh.train()
    for _ in range(steps):
        z, content, degradation = made[rng.integers(len(made))]
        few = mine[torch.from_numpy(rng.permutation(contents)[:4])]
        rows = torch.isin(content, few)
        q, g = fresh.vectors(z[rows])
        same_quality, same_degradation = relations(content[rows], degradation[rows])
        loss = (contrast(fresh.heads[0](q), same_quality, 0.1)
                + contrast(fresh.heads[1](g), same_degradation, 0.1)
                + 0.01 * correlation(q, g))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return fresh.eval()


def triplets(z: np.ndarray, cells: np.ndarray, contents: np.ndarray, seed: int = 0,
             count: int = 4000) -> float:
    """How often the same degradation with another content is nearer than the same content with
    another type, by the cosine of standardised vectors."""
    z = F.normalize(torch.as_tensor((z - z.mean(0)) / z.std(0).clip(1e-6)).float(), dim=1)
    place = {both: row for row, both in enumerate(zip(contents, cells))}
    rng = np.random.default_rng(seed)
    number = contents.max() + 1
    hits = []
    for anchor in rng.integers(len(z), size=count):
        content, cell = contents[anchor], cells[anchor]
        other_content = (content + rng.integers(1, number)) % number
        other_cell = 5 * ((cell // 5 + rng.integers(1, 25)) % 25) + rng.integers(5)
        near = z[anchor] @ z[place[other_content, cell]]
        far = z[anchor] @ z[place[content, other_cell]]
        hits.append(float(near > far))
    return float(np.mean(hits))


def known(z: np.ndarray, cells: np.ndarray, contents: np.ndarray) -> dict[str, float]:
    """What is decoded from vectors of held-out images."""
    return {"type": knn_accuracy(z, cells // 5, contents),
            "level": knn_accuracy(z, cells % 5, contents),
            "content": knn_accuracy(z, contents, cells),
            "triplets": triplets(z, cells, contents)}


def probes(mode: str) -> None:
    """What is decoded from q and from g, over seeds and numbers of contents, on Kodak images."""
    net = shipped().net
    unseen = middle(data_download.load("kodak").thin(12), 128)
    z, cells, contents = probe(unseen, partial(moments, net.extractor))
    note("moments", "kodak", 0, known(z, cells, contents))
    learned = middle(cid22()[0].thin(max(CONTENTS)), 256)
    made = sheets(net.extractor, learned, 8, 3)
    for count in CONTENTS:
        for seed in PROBE_SEEDS:
            trained = heads(net.extractor, made, count, seed)
            _note_vectors(f"heads {count}", trained, z, cells, contents, seed)
    _note_vectors("extractor", net.extractor, z, cells, contents, 0)


@torch.inference_mode()
def _note_vectors(what: str, extractor: Extractor, z: np.ndarray, cells: np.ndarray,
                  contents: np.ndarray, seed: int) -> None:
    values = {}
    for name, vectors in zip("qg", extractor.vectors(torch.from_numpy(z))):
        mine = known(vectors.numpy(), cells, contents)
        values |= {f"{measure} {name}": value for measure, value in mine.items()}
    note(what, "kodak", seed, values)
    print(what, seed, {key: round(value, 3) for key, value in values.items()}, flush=True)


# --- the bracket ---------------------------------------------------------------------------------

class Filtered(nn.Module):
    """Maps of images that a filter has smoothed."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.encoder(tv(x))


def bracket(mode: str) -> None:
    """SRCC of a ridge regression that sees an image's maps and the change that a restorer made."""
    name = "tid2013-kodak"
    dataset = data_download.load(name).thin(IMAGES[name][mode])
    method = shipped()
    views = method.maps(dataset, references=True)
    filtered = frozen_maps.compute(dataset, Filtered(method.net.encoder), method.plan, False)
    features = {what: [] for what in ("none", "tv filter", "restorer", "a quarter of the way",
                                      "half of the way", "three quarters", "oracle")}
    for row in range(len(dataset)):
        seen = [m.float() for m in views.image(row)]
        maps, ours = seen[:4], seen[6:10]
        perfect = difference(views.reference(row)[:4], maps)
        changes = [None, difference(filtered.image(row), maps), ours]
        changes += [[a + share * (b - a) for a, b in zip(ours, perfect)]
                    for share in (0.25, 0.5, 0.75)]
        changes.append(perfect)
        alone = torch.cat([m.mean((0, 2, 3)) for m in maps])
        for what, change in zip(features, changes):
            more = [] if change is None else [m.abs().mean((0, 2, 3)) for m in change]
            features[what].append(torch.cat([alone, *more]))
    rows = dict(zip(dataset.table["image"], range(len(dataset))))
    for what, phi in features.items():
        phi = torch.stack(phi).numpy()
        for seed in SEEDS:
            train, val, test = ([rows[image] for image in part.table["image"]]
                                for part in data.splits(dataset, seed))
            model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
            model.fit(phi[train + val], dataset.scores[train + val])
            value = metrics.srcc(model.predict(phi[test]), dataset.scores[test])
            note("bracket", name, seed, {what: value})


def difference(maps: list[Tensor], others: list[Tensor]) -> list[Tensor]:
    return [a.float() - b.float() for a, b in zip(maps, others)]


# --- the ladder ----------------------------------------------------------------------------------

ALONE = {"quality": False, "degradation": False, "assist": False, "rs": ""}
ADDED = {"interaction": "add", "rs": ""}


@dataclass
class Chosen:
    """Views of a store, or what stands in for them."""

    store: FrozenMaps
    views: Callable[[int], list[Tensor]]

    def __post_init__(self):
        self.dataset = self.store.dataset
        self.crops = self.store.crops

    def __len__(self) -> int:
        return len(self.store)

    def image(self, row: int) -> list[Tensor]:
        return self.views(row)


class Arm(dri.DRIIQA):
    """DRI-IQA as it is, but all arms read one store of views, each what it looks at."""

    name = dri.DRIIQA.name
    references = False

    def maps(self, dataset: Dataset, references: bool) -> Chosen:
        c = self.config
        whole = dri.Network(dataclasses.replace(c, quality=True, assist=True, joint=False))
        views = whole.views.eval().to(self.device)
        store = frozen_maps.compute(dataset, views, self.plan, self.references)
        count = 4 + 2 * c.has_extractor + 8 * c.assist
        contents = dataset.table["content"].to_numpy()
        return Chosen(store, lambda row: self.chosen(store, row, contents)[:count])

    def chosen(self, store: FrozenMaps, row: int, contents: np.ndarray) -> list[Tensor]:
        """All 14 views of a row."""
        return store.image(row)


class Shuffled(Arm):
    """A control of the same size: vectors and restoration are those of another image."""

    def chosen(self, store: FrozenMaps, row: int, contents: np.ndarray) -> list[Tensor]:
        others = np.flatnonzero(contents != contents[row])
        other = others[np.random.default_rng(row).integers(len(others))]
        return [*store.image(row)[:4], *store.image(int(other))[4:]]


class Unguided(Arm):
    """A control of the same size: vectors and restoration are the same numbers for every image."""

    def chosen(self, store: FrozenMaps, row: int, contents: np.ndarray) -> list[Tensor]:
        views = store.image(row)
        return [*views[:4], *(torch.zeros_like(view) for view in views[4:])]


class Rival(Arm):
    """A fair rival of the same size: a second look at the image's own maps in place of vectors and
    restoration."""

    def chosen(self, store: FrozenMaps, row: int, contents: np.ndarray) -> list[Tensor]:
        views = store.image(row)
        maps, vectors, restorer_maps = views[:4], views[4:6], views[10:]
        own = [m.mean((2, 3), keepdim=True)[:, :v.shape[1]] for m, v in zip(maps[2:], vectors)]
        small = [m[:, :r.shape[1]] for m, r in zip(maps, restorer_maps)]
        return [*maps, *own, *maps, *small]


class Oracle(Arm):
    """What assistance can be worth: the change is the one that leads to the reference."""

    references = True

    def chosen(self, store: FrozenMaps, row: int, contents: np.ndarray) -> list[Tensor]:
        views = store.image(row)
        perfect = difference(store.reference(row)[:4], views[:4])
        return [*views[:6], *(m.half() for m in perfect), *views[10:]]


def methods(mode: str, dataset: str) -> dict[str, dri.DRIIQA]:
    """All that is trained on a set, by the name that the experiment has for it; what matters most
    first. All start with the same weights, as far as they have the same parts."""
    config = CONFIGS[mode][dataset]

    def changed(**changes) -> dri.DRIConfig:
        return dataclasses.replace(config, **changes)

    with_tgb = changed(rs="")
    arms = {"A0": Arm(changed(**ALONE)), "A6 A5+RS": Arm(config), "A5 A4+TGB": Arm(with_tgb),
            "A4 A3+R": Arm(changed(**ADDED)), "A3 +q+g": Arm(changed(**ADDED, assist=False))}
    if mode == "quick":  # what was computed once can be replaced
        if dataset == "tid2013-kodak":
            arms["oracle"] = Oracle(with_tgb)
            one = changed(**ADDED, assist=False, split=False, parts="")
            arms["A3 one vector"] = dri.DRIIQA(one, cid22()[0])
        arms |= {"shuffled": Shuffled(with_tgb), "rival": Rival(with_tgb),
                 "unguided": Unguided(with_tgb)}
    arms |= {"A1 +q": Arm(changed(**ALONE | ADDED | {"quality": True})),
             "A2 +g": Arm(changed(**ALONE | ADDED | {"degradation": True}))}
    for arm in arms.values():
        arm.start_like(Arm(config))
    return arms


def scores(mode: str) -> None:
    """The ladder on every split of both sets."""
    for name, count in IMAGES.items():
        try:
            data_download.load(name)
        except DatasetError as error:
            print(f"{name} is left out: {error}")
            continue
        arms = [*methods(mode, name).values()]
        trainings.train_all(arms, name, count[mode], SEEDS, mode)


# --- restored images -----------------------------------------------------------------------------

RESTORED = "tid2013-kodak"


def restored(mode: str) -> None:
    """Two arms trained once more on every split, to judge what the restorer made of test images.

    Nobody has scored restored images here, so MS-SSIM with the reference stands for the truth.
    """
    done = set(measured("on restored", RESTORED)["seed"])
    jobs = [(seed, mode) for seed in SEEDS if seed not in done]
    for (seed, _), values in trainings.side_by_side(_judged_restored, jobs):
        note("on restored", RESTORED, seed, values)
        print(seed, {what: round(value, 3) for what, value in values.items()}, flush=True)


def _judged_restored(job: tuple[int, str]) -> dict[str, float]:
    """SRCC of both arms with MS-SSIM on one test part, degraded and restored."""
    seed, mode = job
    dataset = data_download.load(RESTORED).thin(IMAGES[RESTORED][mode])
    train, val, test = data.splits(dataset, seed)
    every = methods(mode, RESTORED)
    arms = {"full": every["A6 A5+RS"], "alone": every["A0"]}
    for arm in arms.values():
        torch.manual_seed(seed)
        arm.fit(train, val)
    rows: dict[str, list[float]] = {}
    for i in range(len(test)):
        x, x_ref = test.image(i)[None], test.reference(i)[None]
        x_res = eight_bits(arms["full"].restore(x))
        for what, seen in (("degraded", x), ("restored", x_res)):
            rows.setdefault(what, []).append(metrics.ms_ssim(seen, x_ref).item())
            for name, arm in arms.items():
                rows.setdefault(f"{what} {name}", []).append(arm.score(seen).item())
    return {f"{what} {name}": metrics.srcc(rows[f"{what} {name}"], rows[what])
            for what in ("degraded", "restored") for name in arms}


# --- claims --------------------------------------------------------------------------------------

PAIRS = (  # claim, text, arm with it, arm without it
    ("all", "the full method beats its predictor alone", "A6 A5+RS", "A0"),
    ("a", "q alone helps", "A1 +q", "A0"),
    ("b", "adding g to q helps", "A3 +q+g", "A1 +q"),
    ("b alone", "g alone helps", "A2 +g", "A0"),
    ("split", "two vectors beat one", "A3 +q+g", "A3 one vector"),
    ("c", "restoration assistance helps", "A4 A3+R", "A3 +q+g"),
    ("c tgb", "guidance by TGB beats a sum", "A5 A4+TGB", "A4 A3+R"),
    ("c own", "an image's own vectors and restoration beat those of another", "A5 A4+TGB",
     "shuffled"),
    ("c guided", "a guided block beats an unguided one of equal size", "A5 A4+TGB", "unguided"),
    ("c rival", "vectors and restoration beat a second look at the image", "A5 A4+TGB", "rival"),
    ("c oracle", "a perfect restorer would help", "oracle", "A5 A4+TGB"),
    ("d", "the RS loss (align) helps", "A6 A5+RS", "A5 A4+TGB"),
)


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits, or of heads with the same seed."""
    for name in IMAGES:
        claims_on(name, mode)
    for key, text, measure in (
            ("a type", "the type is decoded better from g than from q", "type"),
            ("a triplets", "g passes more triplets than q", "triplets")):
        vector_claim(key, text, measure, "g", "q")
    vector_claim("a content", "the content is decoded worse from g than from q", "content", "q",
                 "g")
    restored_claims(mode)


def vector_claim(key: str, text: str, measure: str, more: str, less: str) -> None:
    """A claim about heads that were trained on most contents, one pair a seed."""
    rows = measured(f"heads {max(CONTENTS)}", "kodak").pivot(
        index="seed", columns="measure", values="value")
    if len(rows) < 2:
        print(f"dri-iqa {key}: no two seeds yet, so nothing is claimed")
        return
    effect = comparisons.of_differences(rows[f"{measure} {more}"] - rows[f"{measure} {less}"])
    report.claim(f"dri-iqa {key}", PAPER, text, "kodak", f"{measure}, {more} - {less}", effect,
                 "over seeds of the heads, trunk frozen")


def restored_claims(mode: str) -> None:
    """Claims about restored images, one pair a split."""
    rows = measured("on restored", RESTORED).pivot(index="seed", columns="measure", values="value")
    if len(rows) < 2:
        print("dri-iqa e: no two splits yet, so nothing is claimed")
        return
    gains = {what: rows[f"{what} full"] - rows[f"{what} alone"]
             for what in ("degraded", "restored")}
    train, _, test = data.splits(data_download.load(RESTORED).thin(IMAGES[RESTORED][mode]), 0)
    overlap = len(test) / len(train)
    remark = "MS-SSIM stands for people"
    for key, text, difference_of, measure in (
            ("e", "on restored images the full method judges better than its predictor alone",
             gains["restored"], "SRCC with MS-SSIM, (full) - (alone)"),
            ("e more", "and gains more there than on degraded images",
             gains["restored"] - gains["degraded"], "SRCC with MS-SSIM, gain - gain")):
        effect = comparisons.of_differences(difference_of, overlap)
        report.claim(f"dri-iqa {key}", PAPER, text, RESTORED, measure, effect, remark)


def claims_on(dataset: str, mode: str) -> None:
    """The claims on one set."""
    rows = trainings.rows_on(dataset, IMAGES[dataset][mode], mode)
    rows = rows[rows["epoch"] == "last"]
    arms = methods(mode, dataset)
    for key, text, more, less in PAIRS:
        if more not in arms or less not in arms:
            continue
        pair = trainings.in_both(*(trainings.rows_of(rows, arms[name]) for name in (more, less)))
        if pair[0]["seed"].nunique() < 2:
            print(f"dri-iqa {key} on {dataset}: no two splits of both arms yet, so nothing is "
                  "claimed")
            continue
        effect = comparisons.compare(*pair)
        report.claim(f"dri-iqa {key}", PAPER, text, dataset, f"SRCC, ({more}) - ({less})", effect,
                     REMARKS[mode])


# --- the figure ----------------------------------------------------------------------------------

def draw_bracket(ax: plt.Axes) -> None:
    """SRCC of the ridge by what it sees, a dot a split, a bar the median."""
    rows = measured("bracket", "tid2013-kodak")
    names = ["none", "tv filter", "restorer", "a quarter of the way", "half of the way",
             "three quarters", "oracle"]
    for place, name in enumerate(names):
        values = rows.loc[rows["measure"] == name, "value"]
        ax.plot(values, np.full(len(values), place), "o", color=plot.BLUE, alpha=0.6)
        ax.plot(2 * [values.median()], [place - 0.3, place + 0.3], color="black")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="SRCC of a ridge, a dot a split", title="a restorer's change, seen by a ridge")
    ax.invert_yaxis()


def draw_ladder(ax: plt.Axes, mode: str) -> None:
    """SRCC by arm, a dot a split, a bar the median."""
    names: list[str] = []
    for shift, (dataset, color) in zip((-0.15, 0.15), zip(IMAGES, (plot.BLUE, plot.ORANGE))):
        rows = trainings.rows_on(dataset, IMAGES[dataset][mode], mode)
        rows = rows[rows["epoch"] == "last"]
        for name, arm in methods(mode, dataset).items():
            if name not in names:
                names.append(name)
            values = trainings.rows_of(rows, arm)["srcc"]
            place = names.index(name) + shift
            label = dataset if name == "A0" else None
            ax.plot(values, np.full(len(values), place), "o", color=color, alpha=0.6, label=label)
            ax.plot(2 * [values.median()], [place - 0.12, place + 0.12], color="black")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="SRCC, a dot a split", title="the ladder and its controls")
    ax.invert_yaxis()
    ax.legend(loc="lower right")


def draw_restoration(ax: plt.Axes) -> None:
    """What restoration and a TV filter gain in PSNR, by type and level."""
    for shift, (name, color) in zip((-0.17, 0.17), (("restorer", plot.BLUE),
                                                    ("tv filter", plot.GREY))):
        rows = measured(name, "cid22")
        kinds = rows["measure"].str.split().str[1]
        for place, kind in enumerate(kinds.unique()):
            values = rows.loc[kinds == kind, "value"]
            label = name if place == 0 else None
            ax.plot(values, np.full(len(values), place + shift), "o", color=color, alpha=0.7,
                    label=label)
        ax.set_yticks(range(kinds.nunique()), kinds.unique())
    ax.axvline(0, color="black", lw=0.8)
    ax.set(xlabel="gain of PSNR in dB, a dot a level", title="restoration of images left out")
    ax.set_xlim(left=-6)
    ax.invert_yaxis()
    ax.legend()


def figure(mode: str) -> None:
    """Left: the bracket. Middle: the ladder. Right: restoration."""
    plot.style()
    page, axes = plt.subplots(1, 3, figsize=(14, 5))
    draw_bracket(axes[0])
    draw_ladder(axes[1], mode)
    draw_restoration(axes[2])
    page.savefig(FOLDER / "dri.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    trainings.main({"parts": parts, "restorer": restorer, "probes": probes, "bracket": bracket,
                    "scores": scores, "restored": restored, "claims": claims, "figure": figure})
