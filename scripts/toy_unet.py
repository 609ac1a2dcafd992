"""Make the small network again that pages load where they need one that knows toy pets.

    python scripts/toy_unet.py        # writes petseg_nb/toy_unet.safetensors, in a minute

It learns from the toy pets of `make_toy_pets(root)`, so pages show it the other two parts of them,
or toys of another seed."""
import tempfile
from pathlib import Path
from petseg_nb.augment import Augment
from petseg_nb.checkpoints import PRETRAINED, model_for
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import pet_dataloaders
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.runs.export import export_checkpoint
from petseg_nb.training import fit


def main():
    config = TrainConfig(width=8, size=64, epochs=12, precision='fp32', device='cpu',
                         memory_format='channels_last')
    with tempfile.TemporaryDirectory() as folder:
        root = make_toy_pets(Path(folder)/'toy_pets')
        loaders = pet_dataloaders(root, 64, 4, transform=Augment('light', 64))
        fit(model_for(config), loaders, config, Path(folder))
        path = PRETRAINED.with_name('toy_unet.safetensors')
        export_checkpoint(Path(folder)/'best.pt', path, 'safetensors')


if __name__ == '__main__': main()
