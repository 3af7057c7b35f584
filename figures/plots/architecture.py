"""Draw architecture_NAME.png for reiqa, yoto, qfm and dri: what each network is made of.

    python -m figures.plots.architecture [folder]

Every network is built in its default size, the paper's where it is known, with random weights, and
gets one image. Shapes (without the batch) and numbers of parameters are those that hooks recorded
on the way; only names and formulas are typed.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import torch
from torch import Generator

from figures import FOLDER
from figures.plots.diagram import DATA, EARLY, FROZEN, NEW, TRAINING, Sheet, Watched, number, size
from iqa_core import (
    dri, features, qfm, qfm_noise, reiqa, reiqa_experts, reiqa_pairs, reiqa_pretrain, yoto)

ALT = {
    "architecture_reiqa": "Re-IQA: two encoders learn from pairs of crops, without scores, which "
                          "crops carry the same distortion; then two frozen experts look at an "
                          "image at two scales, and a ridge scores it",
    "architecture_yoto": "YOTO: one encoder gives four maps of the image and of its reference; "
                         "attention within maps, to the reference and between stages makes tokens, "
                         "which a head scores and weighs",
    "architecture_qfm": "QFM-IQM: an encoder and a panel score an image; only in training, "
                        "features of a matched partner are added and the score must stay, and a "
                        "frozen teacher labels more images",
    "architecture_dri": "DRI-IQA: an extractor gives a quality vector and a degradation vector, a "
                        "restoration network gets the second, and a predictor scores the image "
                        "from all of these",
}


def draw_reiqa(path: Path) -> None:
    """Pretraining above, the score of the two experts below."""
    config = reiqa_pairs.PretrainConfig()
    moco = reiqa_pretrain.MoCo(config)
    photograph = torch.randint(256, (3, 320, 320), dtype=torch.uint8)
    pairs = reiqa_pairs.make_pairs([photograph], config, Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        expert = f"{folder}/expert"
        reiqa_experts.save_expert(expert, moco.query.backbone, config)
        method = reiqa.ReIQA(reiqa.ReIQAConfig("both", config.backbone, "random", expert))
    pretraining = Watched(moco)
    moco(pairs.queries[:1], pairs.keys[:1])
    experts = Watched(method.nets)
    x = torch.rand(1, 3, 288, 384)
    phi = method.extract(x)
    for net in method.nets.values():  # the last look is at half of it
        net(features.halve(x).to(method.device))
    ridge = next(features.ridges(phi.repeat(3, 1).cpu().numpy(), torch.rand(3).numpy(), [1.0]))

    page = Sheet(8.8, 4.75)
    page.title("Re-IQA.  1  Pretraining: which two crops carry the same distortion?")
    versions = config.types_per_image + 1
    page.box("photo", 0.85, 3.65, DATA,
             f"one photograph\n{versions} versions,\n{len(pairs.keys)} pairs", 1.3)
    for side, y, kind, how in (
            ("query", 4.15, EARLY, "it learns"),
            ("key", 3.15, TRAINING, f"it follows: {config.momentum:g} of the old")):
        page.box(f"{side}s", 2.2, y, DATA, f"{side} crop\n{size(pairs.keys)}", 1.1)
        backbone = pretraining.output_and_parameters(f"{side}.backbone")
        page.box(side, 3.85, y, kind, f"{config.backbone}, {side}\n{backbone}\n{how}", 1.65)
        head = pretraining.output_and_parameters(f"{side}.head")
        page.box(f"{side}_head", 5.6, y, TRAINING, f"head\n{head}", 1.0)
    page.box("loss", 7.6, 4.15, TRAINING,
             f"InfoNCE\nthe pair alike, the others not\ntemperature {config.temperature:g}", 1.9)
    page.box("queue", 7.6, 3.15, TRAINING,
             f"queue, the others\n{len(moco.queue):,} older keys\n{size(moco.queue)} each", 1.5)
    page.arrows("photo>querys:tl querys>query>query_head>loss photo>keys:bl "
                "keys>key>key_head>queue key_head>loss queue>loss:tb")

    page.title("2  The score: two experts, two scales, one ridge", 2.4)
    page.box("x", 0.85, 1.75, DATA, f"image x\n{size(x)}")
    page.box("half", 0.85, 0.95, DATA, f"half of it\n{experts.input('quality')}")
    for name, y, what in (("quality", 1.8, "the query's backbone"),
                          ("content", 0.9, "what is shown")):
        expert = experts.output_and_parameters(name)
        page.box(name, 3.4, y, FROZEN, f"{name} expert, {config.backbone}\n{what}\n{expert}", 2.0)
    page.box("phi", 5.55, 1.35, DATA, f"features φ\n{size(phi)}", 1.0)
    page.box("ridge", 7.0, 1.35, NEW, f"ridge\nw · φ + b\n{number(ridge['w'].size + 1)}", 1.1)
    page.box("y", 8.25, 1.35, DATA, "score", 0.6)
    page.arrows("x>quality x>content half>quality half>content quality>phi:rt content>phi:rb "
                "phi>ridge>y")
    page.save(path)


def draw_yoto(path: Path) -> None:
    """The four stages as lines, from the encoder on the left to the score on the right."""
    config = dataclasses.replace(yoto.YOTOConfig(), weights="random")
    with torch.device("meta"):  # shapes without numbers
        net = yoto.Network(config)
        x = torch.rand(1, 3, config.crop, config.crop)
        watched = Watched(net)
        net(x, x)

    page = Sheet(8.8, 5.1)
    parameters = watched.parameters("")
    page.title(f"YOTO: {parameters} parameters, one network with and without a reference")
    page.box("x", 0.6, 3.2, DATA, f"image x\n{size(x)}")
    page.box("ref", 0.6, 1.9, DATA, f"reference x_ref\n{size(x)}\nwithout one\nx takes its place")
    encoder = config.encoder.split("_patch")[0]
    page.box("encoder", 1.75, 2.65, NEW,
             f"encoder\n{encoder}\n{watched.parameters('encoder')}", 0.85)
    heads = watched.parameters("quality_head", "weight_head")
    page.box("head", 8.25, 2.65, NEW, f"s and w\nof {watched.input('quality_head')}\n{heads}", 0.95)
    page.box("y", 8.25, 1.75, DATA, "score\nΣ s w / Σ w", 0.9)
    page.box("loss", 8.2, 0.75, TRAINING, "(score − MOS)²\na coin: with\nreference or not", 1.05)
    page.arrows("x>encoder:rt ref>encoder:rb head>y:bt y~loss:bt")
    for i, y in enumerate((4.25, 3.15, 2.05, 0.95)):
        embedding = watched.parameters(f"norms.{i}", f"embeds.{i}")
        page.box(f"map{i}", 3.0, y, NEW, f"norm, linear\n{watched.output('encoder', i)}\n"
                 f"→ {watched.input(f'channel.{i}')}\n{embedding}", 1.15)
        channel = watched.output_and_parameters(f"channel.{i}")
        page.box(f"channel{i}", 4.35, y, NEW, f"channel attention\n{channel}", 1.15)
        attention = f"{watched.output(f'ha.{i}')}, {watched.parameters(f'ha.{i}')}"
        page.box(f"ha{i}", 6.0, y + 0.23, NEW, f"HA: q of x_ref, k, v of x\n{attention}", 1.6)
        page.box(f"mean{i}", 7.25, y, DATA, "mean\n" + watched.output(f"ha.{i}"), 0.75)
        page.arrows(f"encoder>map{i}>channel{i}>ha{i}>mean{i}>head")
        pairs = [pair for pair in net.sda if pair[0] == str(i + 1)]
        if pairs:
            modules = [f"sda.{pair}" for pair in pairs]
            page.box(f"sda{i}", 6.0, y - 0.23, NEW,
                     f"SDA: k, v of {', '.join(pair[1] for pair in pairs)}\n{len(pairs)} × "
                     f"{watched.output(modules[0])}, {watched.parameters(*modules)}", 1.6)
            page.arrows(f"channel{i}>sda{i}>mean{i}")
    for fine, coarse in net.sda:
        page.arrow(f"channel{int(coarse) - 1}", f"sda{int(fine) - 1}", color="#A0A0A0")
    page.save(path)


def draw_qfm(path: Path) -> None:
    """The score in the upper line; below, what is there in training only."""
    config = dataclasses.replace(qfm.QFMConfig(), weights="random")
    net = qfm.Network(config)
    x = torch.rand(1, 3, config.crop, config.crop)
    bank = net.memory_bank(config)
    others = net.features(net.encoder(torch.rand(5, *x.shape[1:])))
    bank.add(qfm_noise.Records.of(others, torch.rand(5), torch.arange(1, 6)))
    watched = Watched(net)
    net(x)
    tokens = net.features(net.encoder(x))
    own = qfm_noise.Records.of(tokens, torch.rand(1), torch.zeros(1))
    noise, _ = qfm_noise.semantic_noise(tokens, own, bank.records, config)
    perturbed = qfm_noise.perturb(tokens, noise, config.alpha, config.rescale)

    page = Sheet(8.8, 4.1)
    parameters = watched.parameters("")
    page.title(f"QFM-IQM: {parameters} parameters; after training only the upper line is left")
    page.box("x", 0.65, 3.3, DATA, f"image x\n{size(x)}")
    encoder = config.encoder.split("_patch")[0]
    page.box("encoder", 2.1, 3.3, NEW, f"encoder\n{encoder}\n{watched.parameters('encoder')}")
    page.box("F", 3.75, 3.3, DATA, f"F: summary, tokens\n{size(tokens)}", 1.35)
    members = net.panel.members.shape[1]
    page.box("panel", 5.45, 3.3, NEW,
             f"panel\n{members} members query F\n{watched.parameters('panel')}")
    page.box("y", 6.75, 3.3, DATA, "score y", 0.6)
    page.box("quality", 8.05, 3.3, TRAINING, "quality\nSmoothL1(y, MOS)", 1.35)
    page.box("memory", 2.1, 2.1, TRAINING, f"memory bank\nlast {bank.size} images\n"
             f"keys {size(bank.records.keys)}, scores")
    page.box("match", 3.75, 2.1, TRAINING,
             f"match\nlike score, other content\npartner {size(noise)}", 1.6)
    page.box("add", 5.5, 2.1, TRAINING,
             f"add to F\ntokens keep their length\n{size(perturbed)}", 1.55)
    page.box("again", 6.82, 2.1, DATA, "same panel\ngives ỹ", 0.75)
    page.box("steady", 8.05, 2.1, TRAINING,
             f"consistency\n{config.lambda1:g} SmoothL1(ỹ, y)", 1.35)
    page.box("more", 0.65, 0.95, DATA, f"images\nwithout scores\n{size(x)}", 1.1)
    page.box("teacher", 2.25, 0.95, FROZEN,
             f"teacher\nthe plain network, frozen\n{watched.parameters('')}", 1.55)
    page.box("labels", 7.98, 0.95, TRAINING,
             f"pseudo-labels\n{config.lambda2:g} SmoothL1(y, teacher)", 1.5)
    page.arrows("x>encoder>F>panel>y y~quality memory~match~add~again~steady F~match:bt F~add:bt "
                "more~x:tb more~teacher~labels")
    page.save(path)


def draw_dri(path: Path) -> None:
    """Extractor and restorer on the left, the predictor on the right."""
    config = dataclasses.replace(dri.DRIConfig(), weights="random")
    with torch.device("meta"):  # shapes without numbers
        net = dri.Network(config)
        x = torch.rand(1, 3, config.crop, config.crop)
        watched = Watched(net)
        net(x)
        net.extractor.heads[0](torch.rand(1, net.extractor.length))

    page = Sheet(8.8, 5.3)
    parameters = watched.parameters("")
    page.title(f"DRI-IQA: {parameters} parameters; extractor and restorer learn first without "
               "scores, then slowly with the rest")
    page.box("x", 0.6, 3.2, DATA, f"image x\n{size(x)}", 1.0)
    guides = "\n".join(watched.output("extractor", i) for i in range(2, 6))
    page.box("extractor", 1.85, 4.1, EARLY,
             f"extractor\n{guides}\n{watched.parameters('extractor.trunk')}", 1.15)
    maps = "\n".join(watched.output("restorer", i) for i in range(1, 5))
    page.box("restorer", 1.85, 1.7, EARLY,
             f"restorer\nof x, g and the maps\n{maps}\n{watched.parameters('restorer')}", 1.4)
    page.box("q", 3.15, 4.4, DATA, f"q, quality\n{watched.output('extractor')}", 0.7)
    page.box("g", 3.15, 3.8, DATA, f"g, degradation\n{watched.output('extractor', 1)}", 0.95)
    page.box("res", 3.15, 2.3, DATA, f"restored\n{watched.output('restorer')}", 0.95)
    for name, column, y, text in (
            ("stem", 4.45, 3.2, "stem of x"), ("change", 4.45, 2.3, "of |restored − x|"),
            ("assist", 5.85, 2.3, "LN, linear map"), ("tgb", 5.85, 3.2, "TGB"),
            ("swin1", 7.15, 3.2, "Swin blocks"), ("swin2", 7.15, 2.3, "Swin blocks")):
        block = watched.output_and_parameters(f"predictor.{name}")
        page.box(name, column, y, NEW, f"{text}\n{block}", 1.2 if column < 5 else 1.0)
    reduced = f"{len(net.predictor.reduced)} × {watched.output('predictor.reduced.0')}"
    page.box("maps", 4.45, 1.3, NEW,
             f"of its maps\n{reduced}\n{watched.parameters('predictor.reduced')}", 1.2)
    page.box("head", 7.15, 1.3, NEW,
             f"head\nΣ s w / Σ w\n{watched.parameters('predictor.head')}", 1.0)
    page.box("y", 8.25, 1.3, DATA, "score", 0.5)
    heads = f"{watched.output('extractor.heads.0')}, {watched.parameters('extractor.heads')}"
    page.box("contrast", 4.75, 4.75, TRAINING, f"contrast\nheads: {heads}", 1.3)
    page.box("back", 3.25, 0.7, TRAINING, "|restored − reference|\nRS: ratio, for q and g", 1.45)
    page.box("align", 8.25, 2.3, TRAINING,
             f"RS: align\nto q and g\n{watched.parameters('align_projections')}", 0.8)
    page.box("loss", 8.2, 0.65, TRAINING, "(score − MOS)²", 1.05)
    page.arrows("x>extractor:tl x>restorer:bl extractor>q extractor>g extractor>restorer:bt "
                "restorer>res restorer>maps x>stem>tgb res>change>assist maps>assist "
                "assist>tgb:tb q>tgb:rt g>tgb:rt tgb>swin1 swin1>swin2:bt swin2>head:bt head>y "
                "q~contrast g~contrast res~back:bt swin2~align y~loss:bt")
    page.save(path)


DRAWINGS = {"architecture_reiqa": draw_reiqa, "architecture_yoto": draw_yoto,
            "architecture_qfm": draw_qfm, "architecture_dri": draw_dri}


@torch.inference_mode()
def draw(folder: Path) -> None:
    """All drawings into a folder."""
    for name, draw_one in DRAWINGS.items():
        torch.manual_seed(0)
        draw_one(folder / f"{name}.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
