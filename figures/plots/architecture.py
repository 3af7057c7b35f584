"""Draw architecture_NAME.png for reiqa, yoto, qfm and dri: what each network is made of.

    python figures/architecture.py [folder]

Every network is built in its default size, the paper's where it is known, with random weights, and looks at one
picture. Shapes (without the batch) and numbers of parameters are those that hooks saw on the way; only names and
formulas are typed.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import torch
from diagram import DATA, EARLY, FROZEN, NEW, TRAINING, Sheet, Watched, number, size
from torch import Generator

from iqa_core import dri, qfm, reiqa, reiqa_pairs, reiqa_pretrain, yoto
from iqa_core.baselines import ridges

ALT = {
    "architecture_reiqa": "Re-IQA: two encoders learn from pairs of crops, without scores, which crops carry the same "
                          "distortion; then two frozen experts see a picture at two scales, and a ridge scores it",
    "architecture_yoto": "YOTO: one encoder gives four maps of the picture and of its reference; attention within "
                         "maps, to the reference and between stages makes tokens, which a head scores and weighs",
    "architecture_qfm": "QFM-IQM: an encoder and a panel score a picture; only in training, features of a matched "
                        "partner are added and the score must stay, and a frozen teacher labels more pictures",
    "architecture_dri": "DRI-IQA: an extractor gives a quality vector and a degradation vector, a restoration network "
                        "listens to the second, and a predictor scores the picture from all of these",
}


def draw_reiqa(path: Path) -> None:
    c, page, x = reiqa_pairs.PretrainConfig(), Sheet(8.8, 4.75), torch.rand(1, 3, 288, 384)
    moco = reiqa_pretrain.MoCo(c)
    made = reiqa_pairs.make_pairs([torch.randint(256, (3, 320, 320), dtype=torch.uint8)], c, Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        reiqa_pretrain.save_expert(f"{folder}/expert", moco.query.backbone, c)
        method = reiqa.ReIQA(reiqa.ReIQAConfig("both", c.backbone, "random", f"{folder}/expert"))
    pretraining, experts = Watched(moco), Watched(method.nets)
    moco(made.queries[:1], made.keys[:1])
    phi = method.extract(x)
    w = next(ridges(phi.repeat(3, 1).cpu().numpy(), torch.rand(3).numpy(), [1.0]))["w"]

    page.title("Re-IQA.  1  Pretraining: which two crops carry the same distortion?")
    page.box("photo", 0.85, 3.65, DATA,
             f"one photograph\n{c.types_per_picture + 1} versions,\n{len(made.keys)} pairs", 1.3)
    for side, y, kind, how in (("query", 4.15, EARLY, "it learns"),
                               ("key", 3.15, TRAINING, f"it follows: {c.momentum:g} of the old")):
        page.box(f"{side}s", 2.2, y, DATA, f"{side} crop\n{size(made.keys)}", 1.1)
        page.box(side, 3.85, y, kind, f"{c.backbone}, {side}\n{pretraining.both(f'{side}.backbone')}\n{how}", 1.65)
        page.box(f"{side}_head", 5.6, y, TRAINING, f"head\n{pretraining.both(f'{side}.head')}", 1.0)
    page.box("loss", 7.6, 4.15, TRAINING,
             f"InfoNCE\nthe pair alike, the others not\ntemperature {c.temperature:g}", 1.9)
    page.box("queue", 7.6, 3.15, TRAINING,
             f"queue, the others\n{len(moco.queue):,} older keys\n{size(moco.queue)} each", 1.5)
    page.arrows("photo>querys:tl querys>query>query_head>loss photo>keys:bl keys>key>key_head>queue key_head>loss "
                "queue>loss:tb")

    page.title("2  The score: two experts, two scales, one ridge", 2.4)
    page.box("x", 0.85, 1.75, DATA, f"picture x\n{size(x)}")
    page.box("half", 0.85, 0.95, DATA, f"half of it\n{experts.given('quality')}")
    for name, y, what in (("quality", 1.8, "the query's backbone"), ("content", 0.9, "what is shown")):
        page.box(name, 3.4, y, FROZEN, f"{name} expert, {c.backbone}\n{what}\n{experts.both(name)}", 2.0)
    page.box("phi", 5.55, 1.35, DATA, f"features φ\n{size(phi)}", 1.0)
    page.box("ridge", 7.0, 1.35, NEW, f"ridge\nw · φ + b\n{number(w.size + 1)}", 1.1)
    page.box("y", 8.25, 1.35, DATA, "score", 0.6)
    page.arrows("x>quality x>content half>quality half>content quality>phi:rt content>phi:rb phi>ridge>y")
    page.save(path)


def draw_yoto(path: Path) -> None:
    c, page = dataclasses.replace(yoto.YOTOConfig(), weights="random"), Sheet(8.8, 5.1)
    net, x = yoto.Network(c), torch.rand(1, 3, c.crop, c.crop)
    seen = Watched(net)
    net(x, x)
    page.title(f"YOTO: {seen.weights('')} parameters, one network with and without a reference")
    page.box("x", 0.6, 3.2, DATA, f"picture x\n{size(x)}")
    page.box("ref", 0.6, 1.9, DATA, f"reference x_ref\n{size(x)}\nwithout one\nx takes its place")
    page.box("encoder", 1.75, 2.65, NEW, f"encoder\n{c.encoder.split('_patch')[0]}\n{seen.weights('encoder')}", 0.85)
    page.box("head", 8.25, 2.65, NEW, f"s and w\nof {seen.given('good')}\n{seen.weights('good', 'counts')}", 0.95)
    page.box("y", 8.25, 1.75, DATA, "score\nΣ s w / Σ w", 0.9)
    page.box("loss", 8.2, 0.75, TRAINING, "(score − MOS)²\na coin: with\nreference or not", 1.05)
    page.arrows("x>encoder:rt ref>encoder:rb head>y:bt y~loss:bt")
    for i, y in enumerate((4.25, 3.15, 2.05, 0.95)):
        names = [f"sda.{pair}" for pair in net.sda if pair[0] == str(i + 1)]
        page.box(f"map{i}", 3.0, y, NEW, f"norm, linear\n{seen.given(f'norms.{i}')}\n→ {seen.gave(f'embeds.{i}')}\n"
                 f"{seen.weights(f'norms.{i}', f'embeds.{i}')}", 1.15)
        page.box(f"channel{i}", 4.35, y, NEW, f"channels ask\n{seen.both(f'channel.{i}')}", 1.1)
        page.box(f"ha{i}", 6.0, y + 0.23, NEW,
                 f"HA: x_ref asks x\n{seen.gave(f'ha.{i}')}, {seen.weights(f'ha.{i}')}", 1.4)
        page.box(f"mean{i}", 7.2, y, DATA, "mean\n" + seen.gave(f"ha.{i}"), 0.75)
        page.arrows(f"encoder>map{i}>channel{i}>ha{i}>mean{i}>head")
        if names:
            page.box(f"sda{i}", 6.0, y - 0.23, NEW, f"SDA: asks {', '.join(name[-1] for name in names)}\n"
                     f"{len(names)} × {seen.gave(names[0])}, {seen.weights(*names)}", 1.5)
            page.arrows(f"channel{i}>sda{i}>mean{i}")
    for i, j in net.sda:
        page.arrow(f"channel{int(j) - 1}", f"sda{int(i) - 1}", color="#A0A0A0")
    page.save(path)


def draw_qfm(path: Path) -> None:
    c, page = dataclasses.replace(qfm.QFMConfig(), weights="random"), Sheet(8.8, 4.1)
    net, x, memory = qfm.Network(c), torch.rand(1, 3, c.crop, c.crop), qfm.Memory(c.memory)
    memory.add(qfm.Records.of(net.features(torch.rand(5, *x.shape[1:])), torch.rand(5), torch.arange(1, 6)))
    seen = Watched(net)
    net(x)
    features = net.features(x)
    noise, _ = qfm.semantic_noise(features, qfm.Records.of(features, torch.rand(1), torch.zeros(1)), memory.records, c)
    moved = qfm.perturb(features, noise, c.alpha, c.rescale)
    page.title(f"QFM-IQM: {seen.weights('')} parameters; after training only the upper line is left")
    page.box("x", 0.65, 3.3, DATA, f"picture x\n{size(x)}")
    page.box("encoder", 2.1, 3.3, NEW, f"encoder\n{c.encoder.split('_patch')[0]}\n{seen.weights('encoder')}")
    page.box("F", 3.75, 3.3, DATA, f"F: summary, tokens\n{seen.gave('encoder')}", 1.35)
    page.box("panel", 5.45, 3.3, NEW, f"panel\n{net.panel.members.shape[1]} members ask F\n{seen.weights('panel')}")
    page.box("y", 6.75, 3.3, DATA, "score y", 0.6)
    page.box("quality", 8.05, 3.3, TRAINING, "quality\nSmoothL1(y, MOS)", 1.35)
    page.box("memory", 2.1, 2.1, TRAINING,
             f"memory\nlast {memory.size} pictures\nkeys {size(memory.records.keys)}, scores")
    page.box("match", 3.75, 2.1, TRAINING, f"match\nlike score, other content\npartner {size(noise)}", 1.6)
    page.box("add", 5.5, 2.1, TRAINING, f"add to F\ntokens keep their length\n{size(moved)}", 1.55)
    page.box("again", 6.82, 2.1, DATA, "same panel\ngives ỹ", 0.75)
    page.box("steady", 8.05, 2.1, TRAINING, f"consistency\n{c.lambda1:g} SmoothL1(ỹ, y)", 1.35)
    page.box("more", 0.65, 0.95, DATA, f"pictures\nwithout scores\n{size(x)}", 1.1)
    page.box("teacher", 2.25, 0.95, FROZEN, f"teacher\nthe plain network, kept\n{seen.weights('')}", 1.55)
    page.box("labels", 7.98, 0.95, TRAINING, f"pseudo-labels\n{c.lambda2:g} SmoothL1(y, teacher)", 1.5)
    page.arrows("x>encoder>F>panel>y y~quality memory~match~add~again~steady F~match:bt F~add:bt more~x:tb "
                "more~teacher~labels")
    page.save(path)


def draw_dri(path: Path) -> None:
    c, page = dataclasses.replace(dri.DRIConfig(), weights="random"), Sheet(8.8, 5.3)
    net, x = dri.Network(c), torch.rand(1, 3, c.crop, c.crop)
    seen = Watched(net)
    net(x)
    net.extractor.heads[0](torch.rand(1, net.extractor.length))
    guides, maps = ("\n".join(seen.gave(name, i) for i in range(first, first + 4))
                    for name, first in (("extractor", 2), ("restorer", 1)))
    page.title(f"DRI-IQA: {seen.weights('')} parameters; extractor and restorer learn first without scores, then "
               "slowly with the rest")
    page.box("x", 0.6, 3.2, DATA, f"picture x\n{size(x)}", 1.0)
    page.box("extractor", 1.85, 4.1, EARLY, f"extractor\n{guides}\n{seen.weights('extractor.trunk')}", 1.15)
    page.box("restorer", 1.85, 1.7, EARLY, f"restorer\nhears g and the maps\n{maps}\n{seen.weights('restorer')}", 1.4)
    page.box("q", 3.15, 4.4, DATA, f"q, quality\n{seen.gave('extractor')}", 0.7)
    page.box("g", 3.15, 3.8, DATA, f"g, degradation\n{seen.gave('extractor', 1)}", 0.95)
    page.box("res", 3.15, 2.3, DATA, f"restored\n{seen.gave('restorer')}", 0.95)
    for name, column, y, text in (("stem", 4.45, 3.2, "stem of x"), ("change", 4.45, 2.3, "of |restored − x|"),
                                  ("mix", 5.85, 2.3, "mix"), ("tgb", 5.85, 3.2, "TGB"),
                                  ("swin1", 7.15, 3.2, "Swin blocks"), ("swin2", 7.15, 2.3, "Swin blocks")):
        page.box(name, column, y, NEW, f"{text}\n{seen.both(f'predictor.{name}')}", 1.2 if column < 5 else 1.0)
    page.box("maps", 4.45, 1.3, NEW, f"of its maps\n{len(net.predictor.reduced)} × {seen.gave('predictor.reduced.0')}\n"
             f"{seen.weights('predictor.reduced')}", 1.2)
    page.box("head", 7.15, 1.3, NEW, f"head\nΣ s w / Σ w\n{seen.weights('predictor.head')}", 1.0)
    page.box("y", 8.25, 1.3, DATA, "score", 0.5)
    page.box("contrast", 4.75, 4.75, TRAINING,
             f"contrast\nheads: {seen.gave('extractor.heads.0')}, {seen.weights('extractor.heads')}", 1.3)
    page.box("back", 3.25, 0.7, TRAINING, "|restored − reference|\nRS: ratio, for q and g", 1.45)
    page.box("align", 8.25, 2.3, TRAINING, f"RS: align\nto q and g\n{seen.weights('pull')}", 0.8)
    page.box("loss", 8.2, 0.65, TRAINING, "(score − MOS)²", 1.05)
    page.arrows("x>extractor:tl x>restorer:bl extractor>q extractor>g extractor>restorer:bt restorer>res restorer>maps "
                "x>stem>mix res>change>mix maps>mix mix>tgb:tb q>tgb:rt g>tgb:rt tgb>swin1 swin1>swin2:bt "
                "swin2>head:bt head>y q~contrast g~contrast res~back:bt swin2~align y~loss:bt")
    page.save(path)


@torch.inference_mode()
def draw(folder: Path) -> None:
    for name in ALT:
        torch.manual_seed(0)
        globals()[f"draw_{name.removeprefix('architecture_')}"](folder / f"{name}.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
