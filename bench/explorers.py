#!/usr/bin/env python3
"""How long does an explorer with widgets take to redraw? Each control is moved, on one core:
milliseconds of its time, median and slowest.

    python bench/explorers.py

The pictures are toy pets, the models a `UNet` of width 16 and a `ResNet34UNet` with random weights.
A redraw is what happens in the kernel between a change of a control and the new picture. The way to
the browser and back comes on top.
"""
import tempfile, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from petseg_nb.data import PetDataset, course_split, scan_pets
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.resnet34_unet import create_model
from petseg_nb.show.explore import explore_pets
from petseg_nb.show.look_inside import explore_layers, explore_maps


def values_of(control):
    "Up to ten values that the control can take, other than its own"
    if hasattr(control, 'options'): values = control._options_values
    elif hasattr(control, 'step'):
        values = [control.min + i * (control.max - control.min) / 10 for i in range(11)]
    else: values = [not control.value, control.value]
    return [type(control.value)(value) for value in values if value != control.value][:10]


def measure(name, box):
    "Move each control and back"
    took = []
    for control in box.children[0].children:
        start_value = control.value
        for value in [*values_of(control), start_value]:
            if not isinstance(control.value, str) or value in control.options:
                start = time.process_time()
                control.value = value
                took.append(1000 * (time.process_time() - start))
    took.sort()
    print(f'{name:14} {len(took):3} redraws   median {took[len(took) // 2]:4.0f} ms   '
          f'slowest {took[-1]:4.0f} ms')


with tempfile.TemporaryDirectory() as folder:
    root = make_toy_pets(Path(folder)/'toy_pets', n=120)
    tests = course_split(scan_pets(root))['test']
    images, masks = map(torch.stack, zip(*PetDataset(tests, 128)))
    models = {'unet': create_model('unet', width=16),
              'resnet34_unet': create_model('resnet34_unet')}
    measure('pets', explore_pets(root))
    measure('layers', explore_layers(models, PetDataset(tests, 192)[0][0]))
    measure('maps', explore_maps(models['unet'], images, masks))
