"""Make the package's own model again.

    python scripts/pretrained.py data/oxford-iiit-pet pets       # the folder that it is trained on
    petseg_train --data_path pets --augment strong --size 160 --batch_size 8 --epochs 180
    petseg_train --data_path pets --augment strong --size 160 --batch_size 8 --epochs 110 \\
        --learning_rate 0.0005 --weights RUN
    python scripts/pretrained.py RUN        # writes petseg_nb/pretrained.safetensors

Sixty pictures are held out: the eight samples of the package, and of the others those whose names
have the lowest SHA-256. `valid.txt` lists them, so they choose the best epoch, which the model card
says."""
import hashlib, shutil, sys
from pathlib import Path
import numpy as np
from PIL import Image
from petseg_nb.checkpoints import PRETRAINED
from petseg_nb.data import scan_pets
from petseg_nb.masks import SAMPLES, trimap_to_mask
from petseg_nb.runs.export import export_checkpoint

HELD_OUT = 60


def held_out(names):
    "The names that no training sees"
    samples = [path.stem for path in (SAMPLES/'images').iterdir()]
    def by_hash(name): return hashlib.sha256(name.encode()).hexdigest()
    others = sorted(set(names) - set(samples), key=by_hash)
    return set(samples + others[:HELD_OUT - len(samples)])


def write_folder(pets, folder):
    "Pictures and masks in a folder of your own, with the border of each trimap as pet"
    records = sorted(scan_pets(pets), key=lambda record: record.name)
    for part in ('images', 'masks'): (folder/part).mkdir(parents=True)
    for record in records:
        shutil.copy(record.image, folder/'images')
        mask = trimap_to_mask(np.array(Image.open(record.trimap)), 'pet')
        Image.fromarray(255 * mask).save(folder/'masks'/f'{record.name}.png')
    apart = held_out([record.name for record in records])
    for part, inside in (('train', False), ('valid', True)):
        names = [record.name for record in records if (record.name in apart) == inside]
        (folder/f'{part}.txt').write_text('\n'.join(names) + '\n', encoding='utf-8')


if __name__ == '__main__':
    if len(sys.argv) == 3: write_folder(Path(sys.argv[1]), Path(sys.argv[2]))
    else: export_checkpoint(Path(sys.argv[1]), PRETRAINED, 'safetensors')
