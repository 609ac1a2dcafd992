"""Binary semantic segmentation from scratch on Oxford-IIIT Pet, taught in notebooks"""
__version__ = "0.1.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING: # for editors and type checkers; a running program gets these names from `__getattr__`
    from .checkpoints import load_model as load_model
    from .core.config import TrainConfig as TrainConfig
    from .data import PetDataset as PetDataset
    from .inference import Segmenter as Segmenter
    from .lite_unet import create_model as create_model
    from .losses import BCEDiceLoss as BCEDiceLoss, DiceLoss as DiceLoss
    from .resnet34_unet import ResNet34UNet as ResNet34UNet
    from .training import fit as fit
    from .unet import UNet as UNet

_HOMES = dict(load_model='checkpoints', TrainConfig='core.config', PetDataset='data', Segmenter='inference', BCEDiceLoss='losses', DiceLoss='losses',
              ResNet34UNet='resnet34_unet', create_model='lite_unet', fit='training', UNet='unet')


def __getattr__(name):
    "Import a name when it is first used: `import petseg_nb` alone costs nothing"
    from importlib import import_module
    if name not in _HOMES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__(): return sorted(globals().keys() | _HOMES.keys())
