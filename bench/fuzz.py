#!/usr/bin/env python3
"""Do damaged files crash, hang, or fill the memory?

    python bench/fuzz.py --n 20000 [--seed 0]

Takes small pictures of every format that is read, and checkpoints; flips bits, cuts, repeats,
leaves out and overwrites pieces, half of the time within the first 64 bytes, where a file says what
it is; and reads each as `petseg_predict` would. A file must give a picture or a network, or a
`UserError` of one line, within SECONDS. Each thousand is read in a process of its own, so that a
crash is seen. Printed are how many could be read and how many were refused, the slowest, and the
largest memory beyond that of the imports."""
import argparse, io, json, multiprocessing, resource, signal, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from safetensors.torch import save
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.core.config import TrainConfig, portable
from petseg_nb.core.disk import save_checkpoint
from petseg_nb.core.errors import UserError
from petseg_nb.core.images import allow_large_pictures
from petseg_nb.core.tiles import look
from petseg_nb.masks import SAMPLES

SECONDS = 20
FORMATS = [('JPEG', {}), ('JPEG', dict(progressive=True)), ('PNG', {}), ('GIF', {}),
           ('WEBP', dict(lossless=True)), ('WEBP', {}), ('BMP', {}), ('TIFF', {}),
           ('TIFF', dict(compression='tiff_lzw')), ('TIFF', dict(compression='jpeg'))]


def files(folder):
    "Sound files to damage, as bytes: their kind and content"
    with Image.open(next((SAMPLES/'images').iterdir())) as photo: small = photo.resize((60, 44))
    for name, options in FORMATS:
        small.save(to := io.BytesIO(), format=name, **options)
        yield 'picture', to.getvalue()
    for mode in ('L', 'P', '1', 'RGBA', 'I;16'):
        deep = np.asarray(small.convert('L')).astype(np.uint16) * 257
        image = Image.fromarray(deep) if mode == 'I;16' else small.convert(mode)
        image.save(to := io.BytesIO(), format='PNG')
        yield 'picture', to.getvalue()
    config = TrainConfig(width=1, size=16)
    weights, config = model_for(config).state_dict(), portable(config)
    save_checkpoint(dict(config=config, weights=weights), folder/'sound.pt')
    yield '.pt', (folder/'sound.pt').read_bytes()
    about = {'petseg_nb': json.dumps(dict(config=config))}
    yield '.safetensors', save({name: t.contiguous() for name, t in weights.items()}, about)


def damaged(data, rng):
    "A copy with one kind of damage"
    data, reach = bytearray(data), min(len(data), 64 if rng.random() < .5 else len(data))
    first, last = sorted(rng.integers(reach, size=2))
    piece = data[first:last + 1]
    match rng.integers(5):
        case 0:
            for place in rng.integers(reach, size=rng.integers(1, 9)):
                data[place] ^= 1 << int(rng.integers(8))
        case 1: del data[first:]
        case 2: data[first:first] = piece * int(rng.integers(1, 4))
        case 3: del data[first:last + 1]
        case 4: data[first:first + 16] = rng.bytes(16)
    return bytes(data)


def read(kind, data, folder):
    "Whether a file can be read; an error if that ends in neither a result nor one line"
    path = folder/f'damaged{kind}' if kind.startswith('.') else None
    if path: path.write_bytes(data)
    try: result = load_model(path, 'cpu')[0] if path else look(data, 32)
    except UserError as e:
        if '\n' in str(e) or str(path or 'the picture') not in str(e):
            raise AssertionError(f'no line that names the file: {e}') from e
        return False
    if not path:
        shape = result[0].shape
        assert result[0].dtype == np.uint8 and min(shape[:2]) == 32 and shape[2] == 3
    return True


def read_all(seed, first, last, state):
    "Read files of these numbers; in `state`: which one, how many could be read, and the slowest"
    allow_large_pictures() # as the commands do
    with tempfile.TemporaryDirectory() as folder:
        sound = list(files(Path(folder)))
        for i in range(first, last):
            kind, data = sound[i % len(sound)]
            data, state[0] = damaged(data, np.random.default_rng((seed, i))), i
            start = time.monotonic()
            signal.alarm(SECONDS) # ends the process
            state[1] += read(kind, data, Path(folder))
            state[2] = max(state[2], time.monotonic() - start)
            state[3] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 # MiB
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=20_000)
    parser.add_argument('--seed', type=int, default=0)
    args, fork = parser.parse_args(), multiprocessing.get_context('fork')
    state, first, bad = fork.Array('d', 4), 0, []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = before
    while first < args.n:
        numbers = first, min(first + 1000, args.n)
        process = fork.Process(target=read_all, args=(args.seed, *numbers, state))
        process.start()
        process.join()
        peak = max(peak, state[3])
        first = min(first + 1000, args.n)
        if process.exitcode:
            bad.append(f'file {state[0]:.0f}: status {process.exitcode}')
            first = int(state[0]) + 1
    print(f'{args.n} files: {state[1]:.0f} could be read, {len(bad)} crashed, hung or said no line '
          f'{bad}; slowest {state[2]:.2f} s, largest memory {peak - before:.0f} MiB beyond '
          f'{before:.0f}')


if __name__ == '__main__': main()
