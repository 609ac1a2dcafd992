#!/usr/bin/env python3
"""What does each part of a recipe gain, changed one at a time?

    python bench/parts.py --data_path DATASET --out nbs/workshop/runs/parts.jsonl
        [--seeds 0 1 2] [--only bce adam]

A small training (UNet of width 8, 64 pixels, batch 8, AdamW at 1e-3, BCE + Dice) of 20 epochs, and
the same with one part changed: settings, single transforms, and what
`nbs/workshop/runs/parts.ipynb` defines. Then distillation: a UNet of width 32 teaches one of width
8. A line per run holds the best epoch's scores on the test pictures: Dice per image at the
network's size, border as pet, its mean over pictures, and boundary F within 2 pixels. Runs that the
file has already are not made again."""
import argparse, copy, json, shutil, time
from functools import partial
from pathlib import Path
from statistics import fmean
from unittest.mock import patch
import albumentations as A
import cv2
import torch
from chapter import definitions
from petseg_nb.augment import PRESETS
from petseg_nb.checkpoints import load_checkpoint, model_for
from petseg_nb.core.config import TrainConfig
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import predict_probabilities
from petseg_nb.losses import LOSSES
from petseg_nb.runs.fit import new_loaders
from petseg_nb.training import Callback, fit
from petseg_nb.unet import UNet

page = definitions('workshop/runs/parts.ipynb')
BASE = dict(width=8, size=64, epochs=20, batch_size=8, device='cpu', precision='fp32',
            memory_format='channels_last')
TEACHER, STUDENT = dict(width=32, epochs=40), dict(epochs=40)
AFFINE = dict(keep_ratio=True, p=.5, border_mode=cv2.BORDER_REFLECT_101)
TRANSFORMS = {
    'mirror': [A.HorizontalFlip(p=.5)],
    'mirror, upside down, quarter turns': [A.D4()],
    'zoom and shift': [A.Affine(scale=(.8, 1.2), translate_percent=(-.1, .1), **AFFINE)],
    'turn': [A.Affine(rotate=(-20, 20), **AFFINE)],
    'light and colour': [A.ColorJitter(brightness=(.8, 1.2), contrast=(.8, 1.2),
                                       saturation=(.8, 1.2), hue=(-.02, .02), p=.5)],
    'blur and noise': [A.OneOf([A.GaussianBlur(blur_limit=(3, 5)),
                                A.GaussNoise(std_range=(.02, .06))], p=.5)]}
SETTINGS = { # of the parts that are settings
    'base': {}, 'bce': dict(loss='bce'), 'dice': dict(loss='dice'),
    'adam': dict(optimizer='adam', weight_decay=0.), 'constant': dict(schedule='constant'),
    'rate 1e-5': dict(learning_rate=1e-5), 'rate 1e-4': dict(learning_rate=1e-4),
    'rate 3e-3': dict(learning_rate=3e-3), 'batch 2': dict(batch_size=2),
    'batch 32': dict(batch_size=32), 'batch 32, rate 4e-3': dict(batch_size=32, learning_rate=4e-3),
    'raw pixels': dict(normalization='none'), 'EMA 0.99': dict(ema=.99),
    'none': dict(augment='none'), 'strong': dict(augment='strong'),
    **{name: dict(augment='none') for name in TRANSFORMS},
    'teacher': TEACHER, 'student': STUDENT, 'student, taught': STUDENT}
NETWORKS = {'CBAM': partial(UNet, width=8, attention='cbam'),
            'attention gates': partial(UNet, width=8, attention='gate'),
            'transformer': page['TransformerUNet'], 'UNet++': page['UNetPlusPlus'],
            'deep supervision': page['DeepSupervision']}
LOSS = {'deep supervision': page['deep_loss'], 'soft border': page['soft_border'],
        'student, taught': page['taught_loss']}
PARTS = list(dict.fromkeys([
    *SETTINGS, *NETWORKS, *LOSS, 'copy and paste', 'toys first', 'mean of the last five']))


class KeepWeights(Callback):
    "The weights after each epoch"
    def __init__(self): self.states = []
    def after_epoch(self, run): self.states.append(copy.deepcopy(run.model.state_dict()))


def toys(args):
    "Weights after the base training on 240 toy pets"
    if not (args.folder/'toys'/'best.pt').exists():
        config = TrainConfig(**BASE, data_path=str(make_toy_pets(args.folder/'toy_pets')))
        fit(model_for(config), new_loaders(config, args.folder/'cache'), config,
            args.folder/'toys', quiet=True)
    return load_checkpoint(args.folder/'toys'/'best.pt')['weights']


def new_network(name, config, args):
    "The model to train, and the part of it that predicts"
    torch.manual_seed(config.seed)
    model = NETWORKS[name]() if name in NETWORKS else model_for(config)
    if name == 'toys first': model.load_state_dict(toys(args))
    if name != 'student, taught': return model, model
    teacher = model_for(TrainConfig(**BASE | TEACHER))
    teacher.load_state_dict(load_checkpoint(args.folder/'teacher-0'/'best.pt')['weights'])
    return page['Taught'](model, teacher), model


def new_data(name, config, args):
    "The loaders, with the transforms of the part"
    with patch.dict(PRESETS, none=lambda size: TRANSFORMS.get(name, [])):
        loaders = new_loaders(config, args.folder/'cache')
    train = loaders['train'].dataset
    if name == 'copy and paste': train.transform = page['CopyPaste'](train)
    return loaders


def run(name, seed, args):
    "The scores of one run"
    config = TrainConfig(**BASE | SETTINGS.get(name, {}), seed=seed, data_path=str(args.data_path))
    loaders, (model, student) = new_data(name, config, args), new_network(name, config, args)
    keep = [KeepWeights()] if name == 'mean of the last five' else []
    folder = args.folder/f'{name}-{seed}'
    shutil.rmtree(folder, ignore_errors=True)
    start = time.process_time()
    with patch.dict(LOSSES, {config.loss: LOSS.get(name, LOSSES[config.loss])}):
        history = fit(model, loaders, config, folder, quiet=True, callbacks=keep)
    seconds = (time.process_time() - start) / config.epochs
    if keep: page['average_weights'](model, keep[0].states[-5:], loaders['train'])
    predict = partial(predict_probabilities, student.eval())
    rows = [score.row() for score in evaluate(predict, loaders['test'].dataset)]
    return dict(part=name, seed=seed, dice=round(fmean(r['dice'] for r in rows), 4),
                boundary_f1=round(fmean(r['boundary_f1'] for r in rows), 4),
                parameters=sum(p.numel() for p in student.parameters()),
                valid_dice=[round(row['valid_dice'], 4) for row in history],
                seconds_per_epoch=round(seconds, 2))


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data_path', type=Path, required=True)
parser.add_argument('--out', type=Path, required=True)
parser.add_argument('--folder', type=Path, default=Path('runs/parts'), help='receives the runs')
parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
parser.add_argument('--only', nargs='+', choices=PARTS, metavar='PART', default=PARTS)
args = parser.parse_args()
lines = args.out.read_text().splitlines() if args.out.exists() else []
done = {(row['part'], row['seed']) for row in map(json.loads, lines)}
for seed in args.seeds:
    for name in args.only:
        if (name, seed) in done or (name == 'teacher' and seed): continue # one teacher for all
        row = run(name, seed, args)
        with args.out.open('a') as file: file.write(json.dumps(row) + '\n')
        print(name, seed, row['dice'], row['boundary_f1'],
              f'{row["seconds_per_epoch"]} s per epoch', flush=True)
