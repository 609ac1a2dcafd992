"""A training step as the course reports write it, as segmentation_models_pytorch's Unet makes it,
and as `petseg_train` makes it.

python bench/steps.py --size 256 --batch_size 2

Each variant runs in a process of its own, because the allocator's settings hold for a whole
process; the variants take turns.
"""
import argparse, subprocess, sys, time
from pathlib import Path
import torch
from machine import save

VARIANTS = {'reports': 'UNet, fp32, contiguous, Adam', 'ours': "UNet, petseg_train's step",
            'reports resnet34': 'ResNet34UNet, fp32, contiguous, Adam',
            'ours resnet34': "ResNet34UNet, petseg_train's step",
            'smp': 'smp.Unet resnet34, fp32, contiguous, Adam',
            'smp fast': 'smp.Unet resnet34, with our precision, memory format and optimiser'}


def wait(device):
    if device.type == 'cuda': torch.cuda.synchronize()


def seconds(step, device, repeats):
    "The shortest of `repeats` calls, after two that are not counted"
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        step()
        wait(device)
        times.append(time.perf_counter() - start)
    return min(times[2:])


def plain_step(model, images, masks):
    "The step of the course reports"
    from petseg_nb.losses import BCEDiceLoss
    optimizer, loss_fn = torch.optim.Adam(model.parameters(), 1e-4), BCEDiceLoss()

    def step():
        loss = loss_fn(model.train()(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def network(variant, args):
    "The model of a variant, on the CPU; each of them normalises its pictures itself"
    import segmentation_models_pytorch as smp
    from petseg_nb.data import Normalize
    from petseg_nb.resnet34_unet import create_model
    if variant.startswith('smp'):
        return torch.nn.Sequential(Normalize(), smp.Unet('resnet34', encoder_weights=None))
    if variant.endswith('resnet34'): return create_model('resnet34_unet')
    return create_model('unet', width=args.width)


def measure(variant, args):
    "Seconds a picture of one variant, or FLOP a second of the peak"
    from petseg_nb.core.config import TrainConfig
    from petseg_nb.core.device import PRECISIONS, keep_memory, pick_device, resolve
    from petseg_nb.training import Run, train_step
    device, model = pick_device(), network(variant, args)
    shape = args.batch_size, 1, args.size, args.size
    images = torch.randint(0, 256, (args.batch_size, 3, *shape[2:]), dtype=torch.uint8,
                           device=device)
    masks = torch.randint(0, 2, shape, dtype=torch.uint8, device=device)
    if variant in ('reports', 'reports resnet34', 'smp'):
        step = plain_step(model.to(device), images, masks)
    else:
        keep_memory() # as the commands do
        config = resolve(TrainConfig(size=args.size), model)
        if variant == 'peak': return peak(PRECISIONS[config.precision], device)
        run = Run(model, config, steps=1_000_000)
        run.net.train()
        def step(): train_step(run, images, masks)
    return seconds(step, device, args.repeats) / args.batch_size


def peak(dtype, device):
    "The most FLOP a second that any of several matrix products reaches; the shapes take turns"
    sides = (2048, 4096, 8192) if device.type == 'cuda' else (512, 1024, 2048)
    shapes = [(n, n, n) for n in sides] + [(4096, 576, 256), (16384, 576, 64)]
    def random(*shape): return torch.randn(*shape, device=device).to(dtype)
    pairs = [(random(m, k), random(k, n)) for m, k, n in shapes]
    reached = []
    for _ in range(3):
        reached += [2 * m * k * n / seconds(lambda: a @ b, device, 5)
                    for (m, k, n), (a, b) in zip(shapes, pairs)]
    return max(reached)


def flops(args):
    "FLOP of a training step a picture of the UNet, by PyTorch's counter"
    from torch.utils.flop_counter import FlopCounterMode
    from petseg_nb.resnet34_unet import create_model
    with FlopCounterMode(display=False) as counter:
        model = create_model('unet', width=args.width)
        model(torch.randn(1, 3, args.size, args.size)).sum().backward()
    return counter.get_total_flops()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in dict(size=256, width=64, batch_size=2, repeats=5, rounds=2).items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--json')
    parser.add_argument('--only', choices=[*VARIANTS, 'peak'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only: return print(measure(args.only, args))
    found = {variant: [] for variant in [*VARIANTS, 'peak']}
    for _ in range(args.rounds):
        for variant in found:
            words = [sys.executable, Path(__file__), *sys.argv[1:], '--only', variant]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            found[variant].append(float(done.stdout.split()[-1]))
    best = {variant: min(found[variant]) for variant in VARIANTS}
    for variant, time_ in best.items():
        plain = best['reports resnet34' if variant.endswith('resnet34') else 'reports']
        print(f"{time_:8.4f} s a picture, {plain / time_:5.2f} x the reports' step: "
              f"{VARIANTS[variant]}")
    fastest = max(found['peak'])
    print(f"our UNet's step runs at {flops(args) / best['ours'] / fastest:.0%} of the fastest "
          f'matrix product in its precision, {fastest / 1e9:.0f} GFLOP/s')
    save(args.json, seconds_a_picture=found)


if __name__ == '__main__': main()
