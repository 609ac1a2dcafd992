"""Make the package's own model again.

    python scripts/pretrained.py merged data/oxford-iiit-pet   # the folder that it is trained on
    petseg_train --data_path merged --model lite_unet --encoder_weights imagenet \\
        --normalization half --size 224 --augment strong --batch_size 16 --epochs 40 \\
        --patience 10 --learning_rate 0.0005 --ema 0.99
    python scripts/pretrained.py RUN        # writes petseg_nb/pretrained.safetensors

The folder holds the pictures of one or several folders in the dataset's layout. Its lists are
sorted by name, so that every tenth picture of `trainval.txt`, which validates, comes from all breeds. A
picture that the dataset contains twice is left out of `trainval.txt` the second time, or both times
if it is in `test.txt`."""
import shutil, sys
from pathlib import Path
import numpy as np
from petseg_nb.checkpoints import PRETRAINED
from petseg_nb.core.images import HASH_LIMIT, hash_distances
from petseg_nb.data import scan_pets
from petseg_nb.datasets.audit import picture_hash
from petseg_nb.runs.export import export_checkpoint


def merge(folder, sources):
    "Pictures, trimaps and lists of the datasets `sources`, in `folder`"
    records = [record for source in sources for record in scan_pets(source)]
    records.sort(key=lambda record: (record.split != 'test', record.name.lower()))
    hashes = np.stack([picture_hash(record) for record in records])  # (N, 32)
    near = hash_distances(hashes, hashes) <= HASH_LIMIT              # (N, N)
    is_copy = np.tril(near, -1).any(1)                               # of an earlier one
    (folder/'images').mkdir(parents=True)
    (folder/'annotations'/'trimaps').mkdir(parents=True)
    lines, numbers = dict(trainval=[], test=[]), {'cat': 1, 'dog': 2}
    for record, again in zip(records, is_copy):
        if again and record.split == 'trainval': continue
        shutil.copy(record.image, folder/'images')
        shutil.copy(record.trimap, folder/'annotations'/'trimaps')
        lines[record.split].append(f'{record.name} {record.class_id} {numbers[record.species]} 0\n')
    for split, its in lines.items():
        (folder/'annotations'/f'{split}.txt').write_text(''.join(its), encoding='utf-8')


if __name__ == '__main__':
    target, *sources = map(Path, sys.argv[1:])
    if sources: merge(target, sources)
    else: export_checkpoint(target, PRETRAINED, 'safetensors')
