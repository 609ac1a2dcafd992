#!/usr/bin/env python3
"""Which decoder for ResNet34UNet? Trains each variant the same short way from random weights and
prints its validation Dice.

    python bench/decoder_variants.py [--data FOLDER] [--size 96] [--epochs 10] [--seeds 2]

Pictures: the trainval list; each third one validates, the others train, test pictures are not
touched. Metric: Dice of each validation picture (border counted as pet, threshold 0.5, at the
training size), mean over the pictures. One thread, bf16 autocast. The folder defaults to
PETSEG_DATA, else data/oxford-iiit-pet."""
import argparse
import os
import statistics
import torch
from petseg_nb.data import PetDataset, scan_pets
from petseg_nb.show.trace import trace_shapes
from petseg_nb.losses import BCEDiceLoss
from petseg_nb.metrics import dice
from petseg_nb.resnet34_unet import MODELS, create_model

VARIANTS = [name for name in MODELS if name.startswith('resnet34_unet')]

def load(records, size): # images (N, 3, H, W) uint8, masks (N, 1, H, W) uint8
    images, masks = zip(*(PetDataset(records, size)[i] for i in range(len(records))))
    return torch.stack(images), torch.stack(masks)

def autocast(): return torch.autocast('cpu', torch.bfloat16)

def train(name, images, masks, seed, epochs, batch=8):
    torch.manual_seed(seed)
    model, loss_fn = create_model(name).to(memory_format=torch.channels_last), BCEDiceLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * steps)
    order = torch.Generator().manual_seed(seed)  # the same batches and flips for each variant
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=order)[:steps * batch].split(batch):
            x, y = images[index], masks[index]
            if torch.rand((), generator=order) < .5: x, y = x.flip(3), y.flip(3)
            with autocast(): logits = model(x.to(memory_format=torch.channels_last))
            optimizer.zero_grad()
            loss_fn(logits.float(), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()

@torch.no_grad()
def validate(model, images, masks):
    with autocast():
        logits = torch.cat([model(x.to(memory_format=torch.channels_last))
                            for x in images.split(25)])
    return dice(logits > 0, masks).mean().item()

def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default=os.environ.get('PETSEG_DATA', 'data/oxford-iiit-pet'),
                        help='folder of the dataset, or the one above')
    parser.add_argument('--size', type=int, default=96, help='side of the pictures in pixels')
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--seeds', type=int, default=2, help='runs a variant')
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = [r for r in scan_pets(args.data) if r.split == 'trainval']
    valid = load(records[::3], args.size)
    training = load([r for i, r in enumerate(records) if i % 3], args.size)
    print(f'{len(training[0])} pictures train, {len(valid[0])} validate, {args.size} pixels, '
          f'{args.epochs} epochs', flush=True)
    scores = {name:[] for name in VARIANTS}
    for seed in range(args.seeds):
        for name in VARIANTS:
            scores[name].append(validate(train(name, *training, seed, args.epochs), *valid))
            print(f'seed {seed}, {name}: {scores[name][-1]:.3f}', flush=True)
    print(f"{'variant':28}  {'Dice, mean':>10}  {'each seed':24}  {'parameters':>10}  "
          'G multiply-adds at 256')
    for name in VARIANTS:
        trace = trace_shapes(create_model(name), (1, 3, 256, 256))
        each = ' '.join(f'{score:.3f}' for score in scores[name])
        print(f"{name:28}  {statistics.mean(scores[name]):10.3f}  {each:24}"
              f"  {trace.total('params'):10,}  {trace.total('madds') / 1e9:.1f}")

if __name__ == '__main__': main()
