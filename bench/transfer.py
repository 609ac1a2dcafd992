#!/usr/bin/env python3
"""What do ImageNet weights gain, with few pictures and with many?

    python bench/transfer.py PETS RESULTS.jsonl [--size 80] [--steps 120]

PETS is the folder that scripts/pretrained.py makes. LiteUNet is trained in three ways: from random
weights; from ImageNet weights, all layers at one rate; and from ImageNet weights in two stages,
where the encoder is frozen for the first quarter of the steps and then trained at a tenth of the
decoder's rate. All else is the same: AdamW, one cycle, batches of 16, mirrored pictures, BCE +
Dice, the number of steps, and the number of tuning runs: each way tries each rate once, with 150
pictures and seed 0, and takes the one with the best validation Dice. A seed also draws which
training pictures are taken. The best of eight validations is kept, and scored on the test pictures,
at the network's size. Each run adds a line to RESULTS.jsonl; those that are there are not run
again."""
import argparse, copy, random
from functools import partial
from itertools import count, islice
from pathlib import Path
import torch
from machine import Results
from petseg_nb.augment import Augment
from petseg_nb.core.device import keep_memory
from petseg_nb.data import pet_dataloaders, set_epoch
from petseg_nb.datasets.own import parts_to_train
from petseg_nb.lite_unet import LiteUNet
from petseg_nb.losses import BCEDiceLoss
from petseg_nb.training import validate

WAYS = dict(random=dict(weights=None), imagenet=dict(weights='imagenet'),
            two_stages=dict(weights='imagenet', frozen=.25, slower=.1))
RATES = 3e-4, 1e-3, 3e-3
PICTURES = 150, 50, 476 # the first is tuned on
CHECKS = 8
WIDTHS = 128, 64, 48, 32, 16 # a decoder up to full size, which the package's LiteUNet no longer has


def batches(loader):
    "The batches of one epoch after the other, without end"
    for epoch in count():
        set_epoch(loader, epoch)
        yield from loader


def train(model, loaders, rate, steps, frozen=0., slower=1.):
    "Best of eight validation scores and its weights; the encoder rests for a share of the steps"
    loss_fn, best, weights = BCEDiceLoss(), -1, None
    encoder = set(model.encoder.parameters())
    others = [p for p in model.parameters() if p not in encoder]
    groups = [dict(params=list(encoder), lr=rate * slower), dict(params=others)]
    optimizer = torch.optim.AdamW(groups, rate, weight_decay=.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [rate * slower, rate], steps,
                                                   pct_start=.1)
    for step, (images, masks) in enumerate(islice(batches(loaders['train']), steps), 1):
        rests = step <= frozen * steps
        model.train()
        model.encoder.train(not rests).requires_grad_(not rests)
        optimizer.zero_grad()
        loss_fn(model(images), masks).backward()
        optimizer.step()
        schedule.step()
        if step % (steps // CHECKS): continue
        dice = validate(model, loaders['valid'], loss_fn)['dice']
        if dice > best: best, weights = dice, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best


def run(args, way, pictures, seed, rate):
    "The row of one training"
    parts = parts_to_train(args.pets)
    parts['train'] = random.Random(seed).sample(parts['train'], pictures)
    loaders = pet_dataloaders(args.pets, args.size, 16, 'pet', Augment('flip_cbam', args.size),
                              args.results.with_suffix('.cache'), 0, seed, parts)
    torch.manual_seed(seed)
    way = dict(WAYS[way])
    model = LiteUNet(widths=WIDTHS, encoder_weights=way.pop('weights'))
    model.to(memory_format=torch.channels_last)
    valid = train(model, loaders, rate, args.steps, **way)
    return dict(valid=valid, test=validate(model, loaders['test'], BCEDiceLoss())['dice'])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pets', type=Path)
    parser.add_argument('results', type=Path)
    parser.add_argument('--size', type=int, default=80)
    parser.add_argument('--steps', type=int, default=120)
    args = parser.parse_args()
    keep_memory()
    results, train_one = Results(args.results), partial(run, args)
    for way in WAYS:
        for rate in RATES:
            results.add(train_one, way=way, pictures=PICTURES[0], seed=0, rate=rate)
    for seed in (0, 1, 2):
        for pictures in PICTURES:
            for way in WAYS:
                tried = results.known(way=way, pictures=PICTURES[0], seed=0)
                rate = max(tried, key=lambda row: row['valid'])['rate']
                results.add(train_one, way=way, pictures=pictures, seed=seed, rate=rate)
