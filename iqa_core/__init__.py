"""Seeing Quality: the small package behind the notebooks. Import the file that you need.

The files in reading order. Whoever trains one method reads the first three groups and the files of
that method.

Images and scores
    images              an image as a tensor: load, save, luma, crops
    image_formats       which files can be read, and what is wrong with the others
    image_colours       from the samples of a file to sRGB
    metrics             SRCC, KRCC, PLCC, RMSE of predictions; PSNR, SSIM, MS-SSIM of images
    batches             checks of what is given as a batch of images
    color               CIELAB, YCbCr and mixtures of channels
    distortions         the bank of KADID-10k: 25 types at five levels
    distortion_types    one function for each type; its tools in distortion_tools

Data
    data                Dataset, Card, from_frame, from_csv: any table of images and scores
    splits              training, validation and test parts that share no content
    crops               batches of random crops for training
    tables              reading tables of images and scores; paths, meta_info, data_checks help
    inputs              what a method is given, checked
    synthetic           small made-up images for examples and tests

Training and judging
    backbones           networks of timm, with weights that need no connection
    encoders            what a method sees of an image: the maps of a network, frozen or not
    frozen_maps         maps of a dataset under a frozen encoder, computed once
    features            pooled features, ridge regression, FeatureMethod, FrozenRidge
    frozen_mlp          small networks on the features of Re-IQA's experts: the default scorer
    settings            checks of settings, and the source of each
    train               ONE loop over stages: optimizer, scheduler, checkpoint
    hardware            what it runs on: CPU, one GPU or several, and their precision
    method              the contract: fit, predict, score, loss, save, load, identity
    identity            what tells methods, weights and datasets apart
    evaluate            a method over many splits; small_tables for tables too small for that
    comparisons         which of two methods is better; verdicts: what that means for a claim

Methods
    baselines           PSNR, SSIM, MS-SSIM; BRISQUE
    reiqa               Re-IQA; its pairs, pretraining and experts in reiqa_pairs, reiqa_pretrain,
                        reiqa_experts
    yoto                YOTO; its attention blocks in yoto_attention
    qfm                 QFM-IQM; its parts in qfm_network, qfm_noise
    dri                 DRI-IQA; its parts in dri_config, dri_extractor, dri_restorer,
                        dri_predictor, dri_losses, dri_stages

Use
    score               scores for image files; score_methods, score_files find what is asked for
    __main__            python -m iqa_core score PATH...
    files               where files lie, whole files or none, locks, progress
    store               rows that took long to compute, on disk
    console             printing that never fails
"""

__version__ = "0.1.0"
