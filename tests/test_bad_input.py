"""Bad input, counted: each case is one line on the error stream that names the culprit and the
remedy, and leaves nothing behind.

A line is `command flags; command flags | words | …`: all of these cases end in a line with these
words. An indented line goes on with the one above. W is the folder of `world`, OUT one that does
not exist yet.
"""
import errno, io, json, os, pickle, pwd, re, shutil, sys, warnings
from functools import cache
from pathlib import Path
from unittest.mock import Mock
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from conftest import ROOT, Crafted, attempt, finish, png, start
from petseg_nb.augment import Augment
from petseg_nb.blocks import UpConv
from petseg_nb.core.layers import check_input
from petseg_nb.checkpoints import load_checkpoint, load_model, model_for
from petseg_nb.core import pets as core_pets
from petseg_nb.core.config import CHOICES, TrainConfig, check_choice, config_from, portable
from petseg_nb.core.disk import save_checkpoint
from petseg_nb.core.images import as_image, open_picture
from petseg_nb.core.pets import decode_once, find_pets, read_list
from petseg_nb.core.tiles import look
from petseg_nb.data import PetDataset, normalize, pet_dataloaders, scan_pets
from petseg_nb.datasets.own import read_mask, scan_own
from petseg_nb.datasets.toy import draw_pet, make_toy_pets
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import Segmenter, predict_probabilities
from petseg_nb.losses import TverskyLoss, bce_loss, dice_loss
from petseg_nb.masks import trimap_to_mask
from petseg_nb.metrics import SegmentationMeter, boundary_f1, confusion, dice, scores, summarize
from petseg_nb.recipes import recipe_config
from petseg_nb.resnet34_unet import ResNet34UNet, create_model, load_encoder
from petseg_nb.runs.compare import load_results
from petseg_nb.runs.export import read_onnx
from petseg_nb.runs.folders import decode_rle
from petseg_nb.training import Callback
from petseg_nb.unet import UNet

TINY = dict(size=32, width=4, epochs=1, batch_size=2, device='cpu', precision='fp32')


# The files that the cases name

def write_all(folder, files, ending=''):
    "Write bytes or texts, by name"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode('utf-8')
        (folder/f'{name}{ending}').write_bytes(data)


def make_pictures(folder):
    "Files that are no pictures, or not whole"
    good, jpg = io.BytesIO(), io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    noise.save(good, 'PNG'), noise.save(jpg, 'JPEG')
    good, jpg = good.getvalue(), jpg.getvalue()
    write_all(folder, dict(
        good=good, text=b'no picture', empty=b'', cut=good[:len(good) // 2],
        cut_jpeg=jpg[:len(jpg) // 2], head=jpg[:20], bomb=png(20_001, 20_000),
        endless=png(2**31 - 1, 2**31 - 1), flat=png(9, 0), hollow=png(9, 9),
        zip=b'PK\x03\x04' + bytes(40), heic=b'\0\0\0\x18ftypheic' + bytes(40),
        svg=b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        eps=b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n',
        gif=b'GIF89a\xff\xff\xff\xff\0\0\0', tiff=b'II*\0\xff\xff\xff\x7f', bmp=b'BM' + bytes(60),
        webp=b'RIFF\xff\xff\xff\x7fWEBPVP8 ' + bytes(9), elf=b'\x7fELF' + bytes(60)), '.png')
    (folder/'dir.png').mkdir()
    os.mkfifo(folder/'fifo.png')
    (folder/'broken_link.png').symlink_to('nowhere')
    (folder/'loop.png').symlink_to('loop.png')


def make_checkpoints(folder, pets):
    "A checkpoint that is right, and many that are not"
    folder.mkdir()
    config = TrainConfig(**TINY)
    weights, config = model_for(config).state_dict(), portable(config)
    right = dict(config=config, weights={name: t.contiguous() for name, t in weights.items()})
    save_checkpoint(right, folder/'best.pt')
    note = dict(petseg_nb=json.dumps(dict(config=config)))
    save_file(right['weights'], folder/'light.safetensors', note)
    whole, plain = (folder/'best.pt').read_bytes(), (folder/'light.safetensors').read_bytes()
    half = len(whole) // 2
    write_all(folder, dict(
        empty=b'', text=b'text', number=b'i', cut=whole[:half], zeros=bytes(2000),
        zip=b'PK\x03\x04' + bytes(99), picture=png(9, 9), tail=whole[half:],
        flipped=bytes(40) + whole[40:]), '.pt')
    write_all(folder, dict(empty=b'', text=b'text of some length', cut=plain[:len(plain) // 2],
                           header=b'\xff' * 8 + b'{}'), '.safetensors')
    save_file(dict(a=torch.zeros(2)), folder/'foreign.safetensors')
    for name, about in dict(no_json='{', list='[]', no_config='{}').items():
        save_file(right['weights'], folder/f'{name}.safetensors', dict(petseg_nb=about))

    def with_weights(value=None, key='stem.0.weight', part='weights'):
        return right | {part: dict(right['weights'], **{key: value})}
    def with_settings(**changes): return right | dict(config=config | changes)
    zeros = torch.zeros(4, 3, 3, 3)
    states = dict(
        foreign=dict(state_dict=right['weights']), plain_list=[1, 2],
        future=right | dict(format=99, version='9.0'), format_word=right | dict(format='1'),
        no_config=dict(weights=right['weights']), config_list=right | dict(config=[1]),
        config_word=right | dict(config='unet'), weights_list=right | dict(weights=[1]),
        weights_number=with_weights(3), weights_missing=right | dict(weights={}),
        weights_more=with_weights(torch.zeros(1), 'more'),
        weights_nan=with_weights(zeros + torch.nan),
        weights_inf=with_weights(torch.tensor([torch.inf]), 'head.bias'),
        weights_shape=with_weights(torch.zeros(4)), weights_sparse=with_weights(zeros.to_sparse()),
        weights_complex=with_weights(zeros.to(torch.complex64)),
        weights_huge=with_weights(torch.zeros(1).expand(10**15)),
        average_list=right | dict(average=[1]),
        average_nan=with_weights(zeros + torch.nan, part='average'),
        strange_setting=with_settings(depth_wise=True),
        numbered_setting=right | dict(config=config | {7: 1}),
        size_word=with_settings(size='32'), size_none=with_settings(size=None),
        size_zero=with_settings(size=0), size_huge=with_settings(size=10**7),
        size_list=with_settings(size=[32]), width_huge=with_settings(width=10**6),
        width_endless=with_settings(width=10**400), model_none=with_settings(model='vit'),
        model_other=with_settings(model='resnet34_unet'),
        normalization_none=with_settings(normalization='mine'),
        path_number=with_settings(data_path=7))
    for name, state in states.items(): torch.save(state, folder/f'{name}.pt')
    torch.save(dict(weights=Crafted(folder/'ran'), config={}), folder/'runs_code.pt')
    (folder/'pickled.pt').write_bytes(pickle.dumps(Crafted(folder/'ran')))
    os.mkfifo(folder/'fifo.pt')
    for name in ('best.pth', 'best.onnx'): shutil.copy(folder/'best.pt', folder/name)
    (folder/'run').mkdir()
    (folder/'link.pt').symlink_to('link.pt')


def make_runs(folder, pets, checkpoint):
    "Run folders that can't be continued, and configurations"
    folder.mkdir()
    config = vars(TrainConfig(str(pets), **TINY))
    def text(**changes): return json.dumps(config | changes)
    texts = dict(
        not_json='{', list='[1]', number='7', empty='', strange=text(depth=4),
        word=text(size='32'), zero=text(epochs=0), infinite=text(learning_rate=float('inf')),
        deep='[' * 10**5, latin='{"data_path": "Kätzchen"}'.encode('latin-1'), right=text())
    for name, content in texts.items(): write_all(folder/name, {'config.json': content})
    (folder/'no_config').mkdir()
    write_all(folder/'moved', {'config.json': text(data_path='/gone/pets')})
    shutil.copy(checkpoint, folder/'moved')
    state = torch.load(checkpoint, weights_only=True)
    other = model_for(TrainConfig(**TINY | dict(width=8))).state_dict()
    lasts = dict(steps=state | dict(steps=99), part=state | dict(steps=3),
                 other_model=state | dict(steps=3, weights=other),
                 optimizer=state | dict(steps=3, average=state['weights'], optimizer=[1]))
    for name, last in lasts.items():
        shutil.copytree(folder/'right', folder/name)
        torch.save(last, folder/name/'last.pt')
    for name in ('cut', 'fifo', 'code'): shutil.copytree(folder/'right', folder/name)
    (folder/'cut'/'last.pt').write_bytes(checkpoint.read_bytes()[:500])
    os.mkfifo(folder/'fifo'/'last.pt')
    shutil.copy(checkpoint.with_name('runs_code.pt'), folder/'code'/'last.pt')


def replace_by(path, make):
    "Something else where a file or folder was"
    path.unlink()
    make(path)


NO_FILES = dict(absent=lambda path: None, fifo=os.mkfifo, folder=Path.mkdir,
                loop=lambda path: path.symlink_to(path.name))


def make_pets(world):
    "A dataset of toy pets, and copies of it with one thing wrong"
    pets = make_toy_pets(world/'pets', n=8)
    name = scan_pets(pets)[1].name
    trimap = np.array(Image.open(pets/'annotations'/'trimaps'/f'{name}.png'))
    text, test = ((pets/'annotations'/f'{part}.txt').read_text() for part in ('trainval', 'test'))

    def spoil(kind, part='trainval.txt'):
        "A file in a new copy: a list, or the picture or trimap of one pet"
        copy = shutil.copytree(pets, world/f'pets_{kind}', symlinks=True)
        places = dict(picture=copy/'images'/f'{name}.jpg',
                      trimap=copy/'annotations'/'trimaps'/f'{name}.png')
        return places.get(part, copy/'annotations'/part)

    lists = dict(
        species=text.replace(' 1 1\n', ' 7 1\n', 1).replace(' 2 1\n', ' 7 1\n', 1),
        words=text + 'one two three four\n', three=text + 'name 1 1\n',
        traversal=text + '../images/x 1 1 1\n', backslash=text + '..\\x 1 1 1\n',
        absolute=text + '/etc/passwd 1 1 1\n', nul=text + 'a\0b 1 1 1\n',
        absent=text + 'Toy_Tiger_1 1 1 1\n', long=text + 'x' * 300 + ' 1 1 1\n', twice=text + text,
        japanese=text + '猫_1 1 1 1\n', none='', float=text + 'a 1.5 1 1\n', overlap=text + test,
        one=text.splitlines()[0] + '\n', huge_number=text + f'a {"9" * 5000} 1 1\n',
        latin=text.encode() + 'Birmän_1 1 1 1\n'.encode('latin-1'), utf16=text.encode('utf-16'))
    for kind, content in lists.items():
        path = spoil(kind)
        write_all(path.parent, {path.name: content})
    (world/'pets_none'/'annotations'/'test.txt').write_text('')
    spoil('no_picture', 'test.txt').write_text('')
    spoil('no_list').unlink()
    replace_by(spoil('list_folder'), Path.mkdir)
    replace_by(spoil('list_fifo'), os.mkfifo)
    for part in ('picture', 'trimap'):
        for kind in ('text', 'empty', 'cut', 'bomb', 'eps', 'heic'):
            shutil.copy(world/'pictures'/f'{kind}.png', spoil(f'{part}_{kind}', part))
        for kind, make in NO_FILES.items(): replace_by(spoil(f'{part}_{kind}', part), make)
    wrong = {'255': (trimap == 1) * np.uint8(255), 'small': trimap[::2, ::2],
             'colours': np.dstack([trimap] * 3), 'zero': trimap * 0, 'four': trimap + 1}
    for kind, pixels in wrong.items():
        Image.fromarray(pixels).save(spoil(f'trimap_{kind}', 'trimap'))
    shutil.rmtree(spoil('no_images').parents[1]/'images')
    (world/'no_pets').mkdir()
    (world/'circle').symlink_to('circle')


def make_own(world):
    "A folder of your own pictures, and copies of it with one thing wrong"
    own = world/'own'
    (own/'images').mkdir(parents=True), (own/'masks').mkdir()
    for i, name in enumerate('abcd'):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 36, 3), np.uint8)
        Image.fromarray(pixels).save(own/'images'/f'{name}.png')
        Image.fromarray((pixels[..., 0] > 127) * np.uint8(255)).save(own/'masks'/f'{name}.png')
    write_all(own, dict(train='a\nb\n', valid='c\n', test='d\n'), '.txt')
    def spoil(kind): return shutil.copytree(own, world/f'own_{kind}')
    mask = np.array(Image.open(own/'masks'/'a.png'))
    masks = dict(three=mask // 255 * 2 + np.arange(36, dtype=np.uint8) % 2, small=mask[::2],
                 no_black=mask // 255 + 1, soft=np.arange(1440, dtype=np.uint8).reshape(40, 36))
    for kind, pixels in masks.items(): Image.fromarray(pixels).save(spoil(kind)/'masks'/'a.png')
    for kind in ('text', 'empty', 'cut', 'bomb'):
        shutil.copy(world/'pictures'/f'{kind}.png', spoil(f'mask_{kind}')/'masks'/'a.png')
    for kind in ('absent', 'fifo', 'folder'):
        replace_by(spoil(f'mask_{kind}')/'masks'/'a.png', NO_FILES[kind])

    shape = dict(label='cat', shape_type='polygon', points=[[1, 1], [9, 1], [9, 9]])
    def drawing(size=(36, 40), **changes):
        return json.dumps(dict(shapes=[shape | changes], imageWidth=size[0], imageHeight=size[1]))
    texts = dict(
        text='no JSON', list='[]', deep='[' * 10**5, bomb=drawing((10**6, 10**6)),
        word=drawing(('36', 40)), negative=drawing((-36, 40)),
        points=drawing(points=[[1, 'x'], [2, 2]]), line=drawing(shape_type='line'),
        infinite=drawing(shape_type='circle', points=[[0, 0], [float('inf')] * 2]),
        size=drawing((35, 40)))
    for kind, text in texts.items():
        folder = spoil(f'json_{kind}')/'masks'
        (folder/'a.png').unlink()
        write_all(folder, {'a.json': text})
    lists = dict(
        unknown='a\nz\n', twice='a\na\n', overlap='a\nb\nc\n', traversal='../../etc/passwd\n',
        latin='Kätzchen\n'.encode('latin-1'), only_test='')
    for kind, text in lists.items(): write_all(spoil(kind), {'train.txt': text})
    (spoil('no_valid')/'valid.txt').unlink()
    shutil.rmtree((root := spoil('no_pictures'))/'images'), (root/'images').mkdir()
    for part in ('train', 'valid', 'test'): (root/f'{part}.txt').unlink()
    (spoil('both')/'annotations').mkdir()


def make_code(folder):
    "What `petseg_check` is asked to check"
    write_all(folder, {
        'empty.py': '', 'broken.py': 'def my_dice(:', 'missing.py': 'import nowhere_at_all',
        'names.py': 'def my_dice(p, m): return 0\ndef helper(): pass', 'raises.py': '1/0',
        'book.ipynb': '{', 'cells.ipynb': '{}', 'cell.ipynb': '{"cells": [{}]}',
        'latin.py': '# Kätzchen\ndef my_dice(p, m): return 0'.encode('latin-1')})
    os.mkfifo(folder/'fifo.py')
    (folder/'nothing').mkdir()


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    world = tmp_path_factory.mktemp('world')
    make_pictures(world/'pictures')
    make_pets(world)
    make_own(world)
    make_checkpoints(world/'cp', world/'pets')
    make_runs(world/'runs', world/'pets', world/'cp'/'best.pt')
    make_code(world/'code')
    (world/'file').write_text('a file')
    lines = dict(text='no JSON', list='[]', keys='{"recipe": "ours"}', deep='[' * 10**5)
    for name, line in lines.items():
        write_all(world/f'results_{name}', {'results.jsonl': f'{line}\n'})
    return world


# The cases

FLAGS = '''
train --epochs 0; train --resume W/runs/right --epochs 0; compare ours --epochs 0
    | epochs=0 | must be above 0
train --epochs -1 | epochs=-1 | must be above 0
train --epochs x | --epochs | invalid int value: 'x'
train --epochs 1.5 | --epochs | invalid int value: '1.5'
train --epochs | --epochs | expected one argument
train --batch_size 0 | batch_size=0 | must be above 0
train --width 0 | width=0 | must be above 0
train --width 513 | width=513 | must be at most 512
train --width 10000000000000000000000000 | width=10000000000000000000000000 | must be at most 512
train --size 0; compare ours --epochs 1 --size 0 | size=0 | must be above 0
train --size 4097 | size=4097 | must be at most 4096
train --size 99999999999999999999999999 | size=99999999999999999999999999 | must be at most 4096
train --size 8 --data_path W/pets | use at least 16
train --learning_rate 0 | learning_rate=0.0 | must be above 0
train --learning_rate -1 | learning_rate=-1.0 | must be above 0
train --learning_rate inf; compare ours --epochs 1 --learning_rate inf --data_path W/pets
    | learning_rate=inf | must be finite
train --learning_rate nan | learning_rate=nan | must be above 0
train --learning_rate fast | --learning_rate | invalid float value: 'fast'
train --weight_decay -1 | weight_decay=-1.0 | must be 0 or more
train --weight_decay inf | weight_decay=inf | must be finite
train --weight_decay nan | weight_decay=nan | must be 0 or more
train --clip -1 | clip=-1.0 | must be 0 or more
train --clip inf | clip=inf | must be finite
train --ema 1 | ema=1.0 | must be 0 or more and below 1
train --ema nan | ema=nan | must be 0 or more and below 1
train --patience -1 | patience=-1 | must be 0 or more
train --accumulate 0 | accumulate=0 | must be from 1 to batch_size
train --accumulate 5 --batch_size 4 | accumulate=5 | must be from 1 to batch_size, which is 4
train --seed -1; compare ours --epochs 1 --seeds 0 -1 | seed=-1 | must be 0 or more
train --seed 99999999999999999999 | seed=99999999999999999999 | must be below 4294967296
train --workers -2 | workers=-2 | must be -1 or more
train --threads -1 | threads=-1 | must be 0 or more
train --threads 1025 | threads=1025 | must be at most 1024
train --threads all | --threads | invalid int value: 'all'
train --device mps --data_path W/pets | this machine has no mps device | use auto or cpu
train --device cuda --data_path W/pets; train --resume W/runs/right --device cuda;
    predict W/cp/best.pt W/pictures/good.png --device cuda
    | this machine has no cuda device | use auto or cpu
train --encoder_weights imagenet | encoder_weights='imagenet' | none for a unet
train --recipe ours --config x | --config and --recipe | give only one
train --model resnet34_unet --width 8 --data_path W/pets | --width is for --model unet
train --nope; evaluate W/cp/best.pt --nope; check_data W/pets --nope; lab --nope
    | unrecognized arguments: --nope
train word | unrecognized arguments: word
train --resume W/runs/right --size 64 | --resume continues | leave out --size
train --resume W/runs/right --data_path nowhere | nowhere contains no pets | give the folder
train --resume W/runs/right --recipe ours | leave out --recipe
train --batch_size 4 --size 16 --width 4 --data_path W/pets
    | a part of a batch has one picture | raise --size
evaluate; export | required: checkpoint
evaluate W/cp/best.pt --threshold 0 | --threshold 0.0 | must be a probability between 0 and 1
evaluate W/cp/best.pt --threshold 1 | --threshold 1.0 | must be a probability between 0 and 1
evaluate W/cp/best.pt --threshold nan | --threshold nan | must be a probability between 0 and 1
evaluate W/cp/best.pt --threshold half | --threshold | invalid float value: 'half'
evaluate W/cp/best.pt --split train | --split | invalid choice: 'train'
evaluate W/cp/best.pt --tta all; predict W/cp/best.pt W/pictures/good.png --tta all
    | --tta | invalid choice: 'all'
evaluate W/cp/best.pt --border edge | --border | invalid choice: 'edge'
predict | required: pictures
predict W/cp/best.pt | best.pt is the network | name pictures too
predict W/cp | cp is the network | name pictures too
predict W/cp/best.pth W/pictures/good.png
    | best.pth is neither a checkpoint (.pt, .safetensors) nor a picture | name best.pt
predict W/cp/best.onnx W/pictures/good.png
    | best.onnx is neither a checkpoint (.pt, .safetensors) nor a picture | name best.pt
predict W/file W/pictures/good.png | file is neither a checkpoint | nor a picture | name best.pt
predict W/runs/right W/pictures/good.png | right/best.pt does not exist | give best.pt or last.pt
predict W/runs W/pictures/good.png | runs contains neither best.pt nor a picture | name best.pt
predict W/runs/20990101 W/pictures/good.png | 20990101 does not exist | the folder of a run
predict W/runs/2099* W/pictures/good.png | 2099* does not exist | the folder of a run
predict W/pictures/good.png W/cp/best.pt | best.pt is a network | name only one, before the pictures
predict W/cp/best.pt W/cp/light.safetensors W/pictures/good.png
    | light.safetensors is a network | name only one, before the pictures
predict W/cp/best.pt W/runs/moved W/pictures/good.png | moved is a network | name only one
predict W/cp/best.pt W/pictures/good.png --threshold 2 | threshold=2.0 | use 0 to 1
predict W/cp/best.pt W/pictures/good.png --threshold nan | threshold=nan | use 0 to 1
predict W/cp/best.pt W/pictures/good.png --threshold x | --threshold | invalid float value: 'x'
predict W/cp/best.pt W/pictures/good.png --batch_size 0 | batch_size=0 | use 1 or more
predict W/cp/best.pt W/pictures/good.png --batch_size many
    | --batch_size | invalid int value: 'many'
predict W/cp/best.pt W/pictures/good.png --workers 0 | --workers 0 | use 1 or more
predict W/cp/best.pt W/pictures/good.png --device tpu | --device | invalid choice: 'tpu'
predict W/cp/best.pt W/pictures/good.png --precision fp8 | --precision | invalid choice: 'fp8'
predict W/cp/best.pt W/pictures/good.png --rle nowhere/x.csv
    | --rle nowhere/x.csv | name a file in a folder
compare | required: RECIPE
compare ours | --epochs --seconds is required
compare ours --epochs 1 --seconds 5 | --seconds: not allowed with argument --epochs
compare ours --seconds 0 --data_path W/pets | seconds=0.0 | must be above 0
compare mine --epochs 1 | invalid choice: 'mine'
compare ours --epochs 1 --accumulate 9 | accumulate=9
compare ours --epochs 1 --seeds x | --seeds | invalid int value: 'x'
compare ours --epochs 1 --models vit | --models | invalid choice: 'vit'
compare ours --epochs 1 --models unet --width 1000000 --data_path W/pets
    | width=1000000 | must be at most 512
export W/cp/best.pt --format tflite | --format | invalid choice: 'tflite'
export W/cp/best.pt --quantize int4 | --quantize | invalid choice: 'int4'
export W/cp/best.pt --format safetensors --quantize int8 | --quantize int8 is for --format onnx
export W/cp/best.pt --data_path W/pets
    | --data_path names the pictures for --quantize int8 | give both or neither
export W/cp/best.pt --quantize int8 | give their folder with --data_path
export W/cp/best.pt --out x.pb | --out x.pb | ends in .onnx
export W/cp/best.pt --out nowhere/x.onnx | nowhere does not exist | create that folder
check_data | required: data_path
check | required: FILE[:NAME]
check W/code/names.py:my_dice --as vit | --as | invalid choice: 'vit'
check W/code/names.py --as metric | --as is for one thing | give FILE:NAME
check W/code/names.py:my_dice --seconds soon | --seconds | invalid float value: 'soon'
check W/code/names.py:my_dice --seconds 0 | --seconds 0.0 | use more than 0
check W/code/names.py:my_dice --seconds nan | --seconds nan | use more than 0
check W/code/names.py:my_dice --augmented maybe | augmented='maybe' | use one of 'yes', 'no'
check W/code/names.py:my_dice --images jpeg | --images is not for metric
check W/code/names.py:my_dice --inputs pixels | inputs='pixels' | use one of
'''

PATHS = '''
train --config nowhere.json | nowhere.json does not exist | give the config.json of a run
train --config W/runs | runs does not exist | give the config.json of a run
train --config W/runs/not_json/config.json
    | not_json/config.json contains no settings | give the config.json of a run
train --config W/runs/list/config.json
    | list/config.json contains no settings | give the config.json of a run
train --config W/runs/number/config.json
    | number/config.json contains no settings | give the config.json of a run
train --config W/runs/empty/config.json
    | empty/config.json contains no settings | give the config.json of a run
train --config W/runs/deep/config.json
    | deep/config.json contains no settings | give the config.json of a run
train --config W/runs/latin/config.json
    | latin/config.json contains no settings | give the config.json of a run
train --config W/runs/strange/config.json
    | strange/config.json has unknown settings: depth
train --config W/runs/word/config.json | word/config.json | size='32' | must be of type int
train --config W/runs/zero/config.json | zero/config.json | epochs=0 | must be above 0
train --config W/runs/infinite/config.json
    | infinite/config.json | learning_rate=inf | must be finite
train --resume W/runs/moved; train --config W/runs/moved/config.json; evaluate W/runs/moved;
    export W/runs/moved --quantize int8
    | /gone/pets does not exist | moved/config.json gives it
    | give their new folder with --data_path
train --resume nowhere | nowhere/config.json does not exist | or its folder to --resume
train --resume W/file | file/config.json does not exist | or its folder to --resume
train --resume W/runs/no_config | config.json does not exist | or its folder to --resume
train --resume W/circle | circle/config.json does not exist
train --resume W/runs/cut | cut/last.pt cannot be loaded | give best.pt or last.pt of a run
train --resume W/runs/fifo | fifo/last.pt does not exist, or is not a file
train --resume W/runs/code | code/last.pt cannot be loaded: | contains more than tensors
train --resume W/runs/steps | steps/last.pt belongs to a run with 99 steps | use the same data
train --resume W/runs/part | part/last.pt lacks a part of the run | delete it
train --resume W/runs/optimizer | optimizer/last.pt lacks a part of the run | delete it
train --resume W/runs/other_model | other_model/last.pt does not fit a UNet
train TINY --data_path nowhere
    | nowhere contains no pets | give the folder that contains images/ and annotations/
train TINY --data_path W/file | file contains no pets | give the folder
train TINY --data_path W/no_pets | no_pets has an unknown layout | pictures belong in images
train TINY --data_path W/circle | circle contains no pets | give the folder
train TINY --data_path W/pictures/fifo.png | fifo.png contains no pets | give the folder
train TINY --data_path W/pets_no_images | pets_no_images has an unknown layout
    | pictures belong in images
train TINY --data_path ~nobody_of_that_name/pets | set HOME, or write paths that begin
train TINY --data_path /dev/null | /dev/null contains no pets
train TINY --data_path W/pets --out_dir /dev/null/runs
    | /dev/null/runs | Not a directory | name another
train TINY --data_path W/pets --out_dir /proc/runs | /proc/runs | name another
train TINY --data_path W/pets --out_dir W/file | file | name another
train TINY --data_path W/pets --out_dir W/circle | circle | name another
train TINY --data_path W/pets --out_dir LONG | File name too long | name another
train TINY --data_path W/pets --weights nowhere.pt
    | nowhere.pt does not exist | give best.pt or last.pt of a run
train TINY --data_path W/pets --weights W/cp/text.pt | text.pt cannot be loaded | give best.pt
train TINY --data_path W/pets --weights W/cp/best.pt --width 8 | best.pt does not fit a UNet
train TINY --data_path W/pets --weights W/cp/best.pt --normalization half
    | need normalization='imagenet', not 'half'
train TINY --data_path W/pets --weights W/cp/weights_nan.pt
    | weights_nan.pt has weights that are not finite
train TINY --data_path W/pets --mask_value 255;
    evaluate W/cp/best.pt --mask_value 255 --data_path W/pets
    | pets contains trimaps | leave out --mask_value
evaluate W/cp/best.pth --data_path W/pets
    | best.pth cannot be loaded: a checkpoint ends in .pt or .safetensors | give best.pt or last.pt
export W/cp/best.onnx --out OUT.onnx
    | best.onnx cannot be loaded: a checkpoint ends in .pt or .safetensors | give best.pt
train TINY --data_path W/pets --weights W/cp/best.pth
    | best.pth cannot be loaded: a checkpoint ends in .pt or .safetensors | give best.pt
evaluate W/runs/right/config.json | config.json cannot be loaded
evaluate W/cp/best.pt --data_path nowhere; check_data nowhere
    | nowhere contains no pets | give the folder
evaluate W/cp/best.pt | cp has no config.json | give --data_path
evaluate W/cp/best.pt --data_path W/pets --out_dir W/file | file cannot be used | name another
evaluate W/cp/best.pt --data_path W/pets --out_dir /dev/null/x
    | /dev/null/x cannot be used (Not a directory)
evaluate W/cp/best.pt --split test --data_path W/pets_no_picture
    | has no test pictures | give --split valid
predict W/cp/best.pt W/pictures/good.png --out_dir W/file
    | --out_dir | file cannot be used | name another folder
predict W/cp/best.pt W/pictures/good.png --out_dir /proc/x
    | --out_dir /proc/x cannot be used | name another folder
predict W/cp/best.pt W/pictures/good.png --out_dir W/circle
    | circle cannot be used | name another folder
predict W/cp/best.pt W/pictures/good.png --rle /proc/x.csv
    | /proc/x.csv cannot be used | name another
predict W/cp/best.pt W/pictures/good.png --rle W/cp | cp: name a file in a folder that exists
predict nowhere.pt W/pictures/good.png | nowhere.pt does not exist | give best.pt or last.pt
compare COMPARE --folder W/file | file | File exists | name another
compare COMPARE --folder W/results_text; compare COMPARE --folder W/results_list;
    compare COMPARE --folder W/results_keys; compare COMPARE --folder W/results_deep
    | results.jsonl, line 1 is not the result of a run | delete the line
compare ours --epochs 1 --folder OUT TINY --models unet --data_path nowhere;
    export W/cp/best.pt --quantize int8 --data_path nowhere | nowhere contains no pets
compare ours --epochs 1 --folder OUT TINY --models unet --data_path W/pets_twice | listed 2 times
export W/cp/best.pt --format safetensors --out /proc/x.safetensors
    | /proc/x.safetensors | name another
export W/cp/run | run/best.pt does not exist | give best.pt or last.pt of a run
check_data W/file | file contains no pets
check_data W/circle | circle contains no pets
check_data W/pets_none | list no picture
check_data W/pets_latin | trainval.txt is not UTF-8 | save it as UTF-8
check_data W/pets_species | trainval.txt, line | the second 1 (cat) or 2 (dog)
check_data W/own_both | contains masks/ and annotations/ | remove one of the two
check_data W/own_latin | train.txt is not UTF-8 | save it as UTF-8
check_data W/own_overlap | c | a picture belongs to one part
check nowhere:f; check nowhere.py:f | there is no file nowhere.py | give FILE:NAME
check nowhere.py | nowhere.py | give FILE:NAME
check nothing | nothing | give FILE:NAME
check W/code/names.py:nope | nope: the name does not show which checker fits | add --as
check W/code/names.py:MyUNet | has no MyUNet | it has my_dice, helper
check W/code/broken.py:my_dice | broken.py | SyntaxError
check W/code/missing.py:my_dice | missing.py | No module named 'nowhere_at_all'
check W/code/raises.py:my_dice | raises.py cannot be imported | division by zero (line 1
check W/code/latin.py:my_dice | latin.py cannot be imported
check W/code/book.ipynb:my_dice | book.ipynb cannot be imported
check W/code/cells.ipynb:my_dice | cells.ipynb cannot be imported
check W/code/cell.ipynb:my_dice | cell.ipynb cannot be imported
check W/code/empty.py | empty.py: nothing to check | as MyUNet does
check W/code/nothing | nothing: nothing to check
check W/code/fifo.py | fifo.py: nothing to check
'''

# folder of a dataset: words; each is trained on, and each in `ALSO_SCORED` is scored too
DATASETS = '''
pets_species | trainval.txt, line | the second 1 (cat) or 2 (dog)
pets_words; pets_three; pets_float; pets_huge_number; pets_traversal; pets_backslash; pets_absolute;
    pets_nul | trainval.txt, line 7 | is not a name and three numbers
pets_absent | Toy_Tiger_1.jpg cannot be read | restore it, or remove its name from the list
pets_japanese | 猫_1.jpg cannot be read | restore it, or remove its name from the list
pets_long | xxx.jpg cannot be read (File name too long) | remove its name from the list
pets_twice; pets_overlap | listed 2 times | a test picture must not be trained on
pets_none | list no picture
pets_one | has no pictures for train | at least 2 in trainval.txt
pets_no_picture | has no pictures for test | 1 in test.txt
pets_latin; pets_utf16 | trainval.txt is not UTF-8 | save it as UTF-8
pets_no_list; pets_list_folder; pets_list_fifo
    | trainval.txt does not exist, or is not a file | restore it
pets_picture_text; pets_picture_empty; pets_picture_eps; pets_picture_heic
    | .jpg cannot be read (not a picture) | restore it, or leave it out
pets_picture_cut | .jpg cannot be read | restore it, or leave it out
pets_picture_bomb | .jpg cannot be read (more than 400,000,000 pixels | PETSEG_MAX_PIXELS
pets_picture_absent | .jpg cannot be read (No such file | restore it
pets_picture_fifo; pets_picture_folder
    | .jpg does not exist, or is not a file | restore it, or leave it out
pets_picture_loop | .jpg cannot be read (Too many levels of symbolic links) | restore it
pets_trimap_text; pets_trimap_empty; pets_trimap_eps; pets_trimap_heic
    | .png cannot be read (not a picture) | restore it, or leave it out
pets_trimap_cut | .png cannot be read | restore it, or leave it out
pets_trimap_bomb | .png cannot be read (more than 400,000,000 pixels | PETSEG_MAX_PIXELS
pets_trimap_absent | .png cannot be read (No such file | restore it
pets_trimap_fifo; pets_trimap_folder
    | .png does not exist, or is not a file | restore it, or leave it out
pets_trimap_loop | .png cannot be read (Too many levels of symbolic links) | restore it
pets_trimap_255 | .png has values [0, 255] | restore it
pets_trimap_zero | .png has values [0] | restore it
pets_trimap_four; pets_trimap_colours | has only 1, 2 and 3 | restore it
pets_trimap_small | pixels, its picture | restore one of them
own_three | a.png has the values | name the value of the object with --mask_value
own_soft | a.png has | edges are soft | save it as PNG, not JPEG
own_small | a.png has 36 x 20 pixels | draw it on this picture
own_no_black | a.png has the values 1 and 2, none of them black | --mask_value
own_mask_text; own_mask_empty | a.png cannot be read (not a picture) | restore it
own_mask_cut | a.png cannot be read | restore it
own_mask_bomb | a.png cannot be read (more than 400,000,000 pixels | PETSEG_MAX_PIXELS
own_mask_absent | a.png has no mask | draw it
own_mask_fifo; own_mask_folder | a.png does not exist, or is not a file | draw it again
own_json_text; own_json_list; own_json_deep; own_json_bomb; own_json_word; own_json_negative;
    own_json_points; own_json_infinite | a.json is not a labelme drawing | save it with labelme
own_json_line | a.json has a line labelled cat | outline the object with a polygon
own_json_size | a.json has 35 x 40 pixels | draw it on this picture
own_unknown | train.txt names z | remove its name from the list
own_twice | train.txt names a, and so does train.txt | remove one of the two
own_overlap | names c, and so does train.txt | remove one of the two
own_traversal | train.txt names ../../etc/passwd | remove its name from the list
own_latin | train.txt is not UTF-8 | save it as UTF-8
own_no_valid | has no valid pictures | write the names
own_only_test | has no train pictures | write the names
own_no_pictures | images contains no picture that can be used
own_both | contains masks/ and annotations/ | remove one of the two
own --mask_value 7 | no mask in | has the value 7 | --mask_value
'''

# a checkpoint: words; each is scored, predicted with, exported and trained from in turn
CHECKPOINTS = '''
nowhere.pt; fifo.pt; link.pt | does not exist, or is not a file | give best.pt or last.pt of a run
run | best.pt does not exist, or is not a file | give best.pt or last.pt of a run
empty.pt; cut.pt; tail.pt; empty.safetensors; cut.safetensors
    | cannot be loaded: it is cut off | give best.pt or last.pt of a run
text.pt; number.pt; zeros.pt; zip.pt; picture.pt; flipped.pt; text.safetensors; header.safetensors;
    no_json.safetensors; list.safetensors
    | cannot be loaded: it is cut off, is not a checkpoint | give best.pt or last.pt of a run
runs_code.pt | cannot be loaded: | contains more than tensors and plain types
foreign.pt; plain_list.pt; no_config.pt; config_list.pt; config_word.pt; weights_list.pt;
    weights_number.pt; weights_sparse.pt; weights_complex.pt; average_list.pt; foreign.safetensors;
    no_config.safetensors | cannot be loaded: it is not a checkpoint of petseg_train | give best.pt
future.pt | was written by petseg_nb 9.0 | update the package
format_word.pt | was written by petseg_nb | update the package
weights_missing.pt | does not fit a UNet | normalize.mean: missing instead of (3,)
weights_more.pt | does not fit a UNet | more: (1,) instead of nothing
weights_shape.pt | does not fit a UNet | stem.0.weight: (4,) instead of (4, 3, 3, 3)
weights_huge.pt | does not fit a UNet | stem.0.weight
weights_nan.pt; average_nan.pt | has weights that are not finite (stem.0.weight) | take another
weights_inf.pt | has weights that are not finite (head.bias) | take another
strange_setting.pt | has unknown settings: depth_wise
numbered_setting.pt | has unknown settings: 7
size_word.pt | cannot be used: size='32' | must be of type int
size_none.pt | cannot be used: size=None | must be of type int
size_list.pt | cannot be used: size=[32] | must be of type int
size_zero.pt | cannot be used: size=0 | must be above 0
size_huge.pt | cannot be used: size=10000000 | must be at most 4096
width_huge.pt | cannot be used: width=1000000 | must be at most 512
width_endless.pt | width=10000000000000000000 | must be at most 512
model_none.pt | cannot be used: model='vit' | must be one of unet
model_other.pt | does not fit a ResNet34UNet
normalization_none.pt | cannot be used: normalization='mine' | must be one of
path_number.pt | cannot be used: data_path=7 | must be of type str
pickled.pt | cannot be loaded: | give best.pt or last.pt of a run
'''

# a picture that can't be predicted: words, status 1
PICTURES = '''
nowhere.png; fifo.png; broken_link.png; loop.png; *.jpeg
    | does not exist, or is not a file | restore it, or leave it out
dir.png | dir.png contains no picture | name another folder
text.png; empty.png; zip.png; elf.png; heic.png; svg.png; eps.png
    | cannot be read (not a picture) | restore it, or leave it out
cut.png; head.png; flat.png; hollow.png; gif.png; tiff.png; bmp.png; webp.png
    | cannot be read ( | restore it, or leave it out
cut_jpeg.png | cannot be read (image file is truncated | restore it, or leave it out
bomb.png; endless.png
    | cannot be read (more than 400,000,000 pixels | with PETSEG_MAX_PIXELS | leave it out
'''


def rows(text):
    "The cases, one by one; an indented line goes on with the one above"
    for line in re.split(r'\n(?! )', text.strip()):
        cases, *words = [part.strip() for part in line.split('|')]
        for case in re.split(r';\s+', cases): yield case, *words


def checkpoint_case(i, name):
    "What reads a checkpoint takes turns"
    commands = ('evaluate W/cp/{} --data_path W/pets', 'predict W/cp/{} W/pictures/good.png',
                'export W/cp/{} --format safetensors --out OUT.safetensors',
                'train TINY --data_path W/pets --weights W/cp/{}')
    return commands[i % 4 if name != 'run' else 0].format(name)


CASES = [*rows(FLAGS), *rows(PATHS)]
CASES += [(f'train --{name} strange', f'argument --{name}', "invalid choice: 'strange'")
          for name in CHOICES if name in vars(TrainConfig) or name == 'recipe']
CASES += [(f'train TINY --data_path W/{folder}', *words) for folder, *words in rows(DATASETS)]
CASES += [(checkpoint_case(i, name), *words) for i, (name, *words) in enumerate(rows(CHECKPOINTS))]
CASES += [(f'predict W/cp/best.pt W/pictures/{name}', *words) for name, *words in rows(PICTURES)]
TAKES_OUT = 'train', 'evaluate', 'predict'


def run(command, words):
    "Status, output and errors of a command, with its warnings"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('ignore', DeprecationWarning) # as without pytest
        status, out, err = attempt(command, *words)
    return status, out, err + ''.join(f'{warning.message}\n' for warning in warned)


def words_of(case, world, tmp_path):
    "Command and words of a command line"
    case = case.replace('COMPARE', 'ours --epochs 1 TINY --models unet --data_path W/pets')
    command, *words = case.split()
    if 'TINY' in words:
        tiny = {name: value for name, value in TINY.items()
                if (command, name) != ('compare', 'epochs')}
        at = words.index('TINY')
        words[at:at + 1] = [part for name, value in tiny.items()
                            for part in (f'--{name}', str(value))]
    if command in TAKES_OUT and not {'--out_dir', '--resume'} & {*words}:
        words += ['--out_dir', 'OUT']
    places = {'W': str(world), 'OUT': str(tmp_path/'out'), 'LONG': 'x' * 300}
    def placed(word): return re.sub(r'^(W|OUT|LONG)(?=/|\.|$)', lambda m: places[m[1]], word)
    return command, [placed(word) for word in words]


def run_case(case, world, tmp_path): return run(*words_of(case, world, tmp_path))


@cache
def folders(root): return [path for path, *_ in os.walk(root)]
def tree(root): return {path: set(os.listdir(path)) for path in folders(root)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    (tmp_path/'here').mkdir()
    monkeypatch.chdir(tmp_path/'here')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(sys, 'path', list(sys.path))
    for backend in (torch.cuda, torch.backends.mps): # a GPU that is not there
        monkeypatch.setattr(backend, 'is_available', cache(lambda: False))


@pytest.mark.parametrize('case, words', [pytest.param(case, words, id=f'{i}-{case[:60]}')
                                         for i, (case, *words) in enumerate(CASES)])
def test_bad_input_is_one_line(world, tmp_path, case, words):
    command, argv = words_of(case, world, tmp_path)
    before = tree(world)
    status, out, err = run(command, argv)
    besides = r'\d+ pictures? in |usage: | {5,}' # the count, and argparse's usage
    lines = [line for line in err.splitlines() if not re.match(besides, line)]
    assert len(lines) == 1 and lines[0].startswith(f'petseg_{command}: '), err
    assert all(part in lines[0] for part in words), f'{words} are not in: {lines[0]}'
    a_picture_failed = case.startswith('predict W/cp/best.pt W/pictures/') and case.count(' ') == 2
    assert status == (1 if a_picture_failed else 2), err
    assert not out.strip() or '--resume' in case, out
    assert tree(world) == before and not (world/'cp'/'ran').exists()
    folder_comes_first = a_picture_failed or '--rle /proc/x.csv' in case
    assert folder_comes_first or not (tmp_path/'out').exists()
    assert not list(tmp_path.glob('out/*'))
    assert not list((tmp_path/'here').iterdir())
    assert not list(tmp_path.rglob('*.part')) and not list(tmp_path.glob('out*.safetensors'))


# Functions

def float_masks(*shape): return torch.zeros(*shape), torch.zeros(*shape)


def no_pets(folder):
    "One pet, whose trimap has to be read"
    return scan_pets(folder)[:1]


def transformed(world, transform):
    return PetDataset(no_pets(world/'pets'), 16, transform=transform)[0]


def opened(source):
    with open_picture(source) as image: image.load()


def predicted(**changes):
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    return predict_probabilities(UNet(width=4), pixels, **changes)


FUNCTIONS = {
    "size='80': must be of type int": lambda w: TrainConfig(size='80'),
    'learning_rate=inf: must be finite': lambda w: TrainConfig(learning_rate=float('inf')),
    "model='vit': must be one of unet": lambda w: TrainConfig(model='vit'),
    "device='tpu': must be one of auto, cpu": lambda w: TrainConfig(device='tpu'),
    'x.json has unknown settings: depth':
        lambda w: config_from(dict(depth=3), 'x.json'),
    "border='edge': use one of 'pet'": lambda w: check_choice('border', 'edge', ('pet',)),
    'size=100000: must be at most 4096': lambda w: TrainConfig(size=100_000),
    'width=1000000: must be at most 512': lambda w: TrainConfig(width=10**6),
    'input of shape (3, 32, 32): use (B, 3, H, W)': lambda w: UNet(width=4)(torch.zeros(3, 32, 32)),
    'input of shape (1, 1, 32, 32): the model has in_channels=3':
        lambda w: UNet(width=4)(torch.zeros(1, 1, 32, 32)),
    'input of shape (1, 3, 8, 32): use at least 16×16':
        lambda w: UNet(width=4)(torch.zeros(1, 3, 8, 32)),
    'it is torch.int64: use uint8 pixels, or floats':
        lambda w: UNet(width=4)(torch.zeros(1, 3, 32, 32, dtype=torch.int64)),
    'input of shape (1, 1, 32, 64): the model has in_channels=3':
        lambda w: ResNet34UNet()(torch.zeros(1, 1, 32, 64, dtype=torch.uint8)),
    'input of shape (2, 4, 8, 8): the model has in_channels=3, not 4':
        lambda w: check_input(torch.zeros(2, 4, 8, 8), 3, 8),
    "attention='self': use one of": lambda w: UpConv(8, 4, 4, attention='self'),
    "up='nearest': use one of 'transpose', 'bilinear'": lambda w: UpConv(8, 4, 4, up='nearest'),
    "model 'vit': use one of unet": lambda w: create_model('vit'),
    "model 'unet' has no argument heads: use some of in_channels":
        lambda w: create_model('unet', heads=4),
    "encoder_weights='coco': use one of": lambda w: load_encoder(None, 'coco'),
    'use at most 5, the encoder halves no more often': lambda w: ResNet34UNet(widths=(8,) * 6),
    'prediction (2, 1, 8, 8) and mask (2, 8, 8) must both be (B, 1, H, W) and equal: '
    'mask.unsqueeze(1)':
        lambda w: bce_loss(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8)),
    'prediction (2, 3, 8, 8) and mask (2, 3, 8, 8) must both be':
        lambda w: dice_loss(*float_masks(2, 3, 8, 8)),
    'smooth=0: must be above 0': lambda w: dice_loss(*float_masks(1, 1, 4, 4), smooth=0),
    'smooth=-1: must be above 0': lambda w: TverskyLoss(smooth=-1),
    'must both be (B, 1, H, W) and equal':
        lambda w: confusion(torch.zeros(4, 4), torch.zeros(4, 4)),
    '16 pixels have wrong values: a prediction has 0 or 1 (threshold it':
        lambda w: dice(torch.full((1, 1, 4, 4), .5), torch.zeros(1, 1, 4, 4)),
    'a mask 0, 1 or 255 (is it a trimap? see trimap_to_mask)':
        lambda w: scores(confusion(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 2))),
    'no image was counted: call update(logits, mask) first':
        lambda w: SegmentationMeter().compute(),
    'no image was counted': lambda w: summarize(torch.zeros(0, 5)),
    'threshold=1.5: must be a probability between 0 and 1': lambda w: SegmentationMeter(1.5),
    "mask has ignored pixels (255) where the contour is: use border='pet'":
        lambda w: boundary_f1(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 255)),
    "border='edge': use 'pet', 'background' or 'ignore'":
        lambda w: trimap_to_mask(np.ones((2, 2), np.uint8), 'edge'),
    'trimap has values [0]; a trimap has only 1, 2 and 3. Is it a mask, or was it saved as JPEG?':
        lambda w: trimap_to_mask(np.zeros((2, 2), np.uint8)),
    'normalize takes uint8 pixels (0 to 255), not torch.float32: was it called twice?':
        lambda w: normalize(torch.zeros(1, 3, 4, 4)),
    "augment='much': use one of light": lambda w: Augment('much'),
    "tta='all': use one of 'none', 'flip', 'd4'": lambda w: predicted(tta='all'),
    "precision='fp8': use one of 'fp32', 'bf16', 'fp16'": lambda w: predicted(precision='fp8'),
    "precision='fp8': use one of 'auto', 'fp32', 'bf16', 'fp16'":
        lambda w: Segmenter(UNet(width=4), 32, precision='fp8'),
    'threshold=7: use 0 to 1': lambda w: Segmenter(UNet(width=4), 32, threshold=7),
    'batch_size=0: use 1 or more': lambda w: Segmenter(UNet(width=4), 32, batch_size=0),
    'x.pt: use a name that ends in .safetensors':
        lambda w: Segmenter.load(w/'cp'/'best.pt', 'cpu').save('x.pt'),
    'this network has no configuration':
        lambda w: Segmenter(UNet(width=4), 32).save('x.safetensors'),
    "device='tpu': use one of 'auto', 'cuda', 'mps', 'cpu'":
        lambda w: load_model(w/'cp'/'best.pt', 'tpu'),
    "device='cuda': this machine has no cuda device, use auto or cpu":
        lambda w: load_model(w/'cp'/'best.pt', 'cuda'),
    'absent.pt does not exist, or is not a file: give best.pt':
        lambda w: load_checkpoint(w/'absent.pt'),
    'float64 is not a picture: use uint8 from 0 to 255': lambda w: as_image(np.zeros((4, 4, 3))),
    'ndarray of shape (4, 4, 5) and type uint8 is not a picture':
        lambda w: as_image(np.zeros((4, 4, 5), np.uint8)),
    'ndarray of shape (0, 4, 3) and type uint8 is not a picture':
        lambda w: as_image(np.zeros((0, 4, 3), np.uint8)),
    'Tensor of shape (2, 3, 4, 4) and type uint8 is not a picture':
        lambda w: as_image(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)),
    'the picture cannot be read (not a picture): restore it': lambda w: opened(b'GIF'),
    'PETSEG_MAX_PIXELS for a command, or with PIL.Image.MAX_IMAGE_PIXELS in a program':
        lambda w: opened(w/'pictures'/'endless.png'),
    'absent.png does not exist, or is not a file': lambda w: look(w/'absent.png', 32),
    "'1 5 3 2' cannot be the run lengths of 4 x 4 pixels: use ascending pairs":
        lambda w: decode_rle('1 5 3 2', (4, 4)),
    "'1' cannot be the run lengths": lambda w: decode_rle('1', (4, 4)),
    "'9 99' cannot be the run lengths": lambda w: decode_rle('9 99', (4, 4)),
    "'1 -2' cannot be the run lengths": lambda w: decode_rle('1 -2', (4, 4)),
    "'a b' cannot be the run lengths": lambda w: decode_rle('a b', (4, 4)),
    'nowhere contains no pets': lambda w: find_pets(w/'nowhere'),
    "line 7: 'one two three four' is not a name and three numbers":
        lambda w: read_list(w/'pets_words'/'annotations'/'trainval.txt'),
    'has no pictures for train: at least 2': lambda w: pet_dataloaders(w/'pets_one'),
    "border='edge': use 'pet'": lambda w: PetDataset([], border='edge'),
    'a transform returned uint8 (16, 16, 3) and bool (16, 16): return NumPy arrays of uint8':
        lambda w: transformed(w, lambda image, mask, seed: (image, mask > 0)),
    'a transform returned float64 (16, 16, 3) and uint8 (16, 16): return NumPy arrays of uint8':
        lambda w: transformed(w, lambda image, mask, seed: (image / 255, mask)),
    'a transform returned uint8 (8, 16, 3) and uint8 (16, 16)':
        lambda w: transformed(w, lambda image, mask, seed: (image[::2], mask)),
    'a transform returned Image and uint8 (16, 16)':
        lambda w: transformed(w, lambda image, mask, seed: (Image.fromarray(image), mask)),
    'size=0: use 1 or more pixels': lambda w: PetDataset(no_pets(w/'pets'), size=0),
    'train.txt names z, but images/ contains no such picture':
        lambda w: scan_own(w/'own_unknown'),
    'a.png has 256 values, so its edges are soft':
        lambda w: read_mask(w/'own_soft'/'masks'/'a.png'),
    'threshold=0: must be a probability between 0 and 1':
        lambda w: evaluate(None, None, threshold=0),
    'this dataset has a transform: remove it':
        lambda w: evaluate(None, PetDataset([], transform=print)),
    'results.jsonl, line 1 is not the result of a run':
        lambda w: load_results(w/'results_text'/'results.jsonl'),
    "recipe='mine': use one of 'oneof_cosine'": lambda w: recipe_config('mine'),
    'size=8: a pet needs at least 32 pixels per side':
        lambda w: draw_pet(np.random.default_rng(0), 8),
    "breed='tiger': use one of": lambda w: draw_pet(np.random.default_rng(0), 64, 'tiger'),
    'n=2: use at least 4 pictures': lambda w: make_toy_pets(w/'new', 2),
    'seed=-1: use 0 or more': lambda w: make_toy_pets(w/'new', 8, -1),
    'own exists, but does not contain the toy pets with n=8': lambda w: make_toy_pets(w/'own', 8),
    'best.pt cannot be read': lambda w: read_onnx(w/'cp'/'best.pt'),
    'absent.onnx cannot be read': lambda w: read_onnx(w/'absent.onnx'),
}


@pytest.mark.parametrize('words', FUNCTIONS)
def test_a_function_says_what_it_wants(world, words):
    before = tree(world)
    with pytest.raises(ValueError) as caught: FUNCTIONS[words](world)
    assert words in str(caught.value) and '\n' not in str(caught.value), caught.value
    assert tree(world) == before


def test_there_are_cases_enough():
    assert len(CASES) >= 150 and len(set(map(str, CASES))) == len(CASES)


# Worlds that are odd

def test_what_is_odd_but_right_is_taken(world, tmp_path):
    "Lists as Windows writes them, long and foreign names, a run's folder, a linked folder"
    pets = shutil.copytree(world/'pets', tmp_path/'Kätzchen 猫')
    path = pets/'annotations'/'trainval.txt'
    old, new = scan_pets(pets)[0].name, 'é' * 100 + '_1'
    for part, ending in (('images', 'jpg'), ('annotations/trimaps', 'png')):
        (pets/part/f'{old}.{ending}').rename(pets/part/f'{new}.{ending}')
    text = path.read_text(encoding='utf-8').replace(old, new)
    path.write_bytes(('\ufeff' + text.replace('\n', '\r\n')).encode())
    (tmp_path/'link').symlink_to(pets)
    status, out, err = run_case('train TINY --data_path W/link --out_dir OUT', tmp_path, tmp_path)
    assert (status, err) == (0, '') and '5 training pictures' in out, err
    folder, = (tmp_path/'out').iterdir()
    (tmp_path/'pic').mkdir()
    long = 'ü' * 100
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path/'pic'/f'{long}.png')
    words = [str(folder), str(tmp_path/'pic'), '--out_dir', str(tmp_path/'masks')]
    status, out, err = run('predict', words)
    assert status == 0 and (tmp_path/'masks'/f'{long}_mask.png').exists(), err


@pytest.mark.parametrize('flags', [
    '--batch_size 9 --learning_rate 1e30',
    '--batch_size 9 --learning_rate 1e38 --optimizer sgd --schedule constant',
    '--learning_rate 1e30', '--batch_size 9 --learning_rate 1e30 --ema .9'])
def test_a_run_that_leaves_the_numbers_stops(world, tmp_path, flags):
    "In an epoch of one step the loss is finite, and what the step makes of the weights is not"
    case = f'train TINY --data_path W/pets --out_dir OUT {flags}'
    status, _, err = run_case(case, world, tmp_path)
    assert status == 2 and err.count('\n') == 1, err
    assert 'Try a lower learning_rate than 1e+3' in err, err
    assert [path.name for path in (tmp_path/'out').rglob('*') if path.is_file()] == ['config.json']


class Spoil(Callback):
    "Makes a weight of `part` of a run infinite after its third step"
    def __init__(self, part): self.part = part
    def after_step(self, run, loss):
        if run.step == 3: next(getattr(run, self.part).parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize('part, words', [('model', 'step 3: weights are no longer finite'),
                                         ('average', 'validation: the loss is nan')])
def test_weights_and_validation_are_asked_too(world, tmp_path, monkeypatch, part, words):
    from petseg_nb.runs import fit
    class Keeper(fit.Keeper):
        def after_step(self, run, loss):
            Spoil(part).after_step(run, loss)
            super().after_step(run, loss)
    monkeypatch.setattr(fit, 'Keeper', Keeper)
    case = 'train TINY --ema .9 --data_path W/pets --out_dir OUT'
    status, _, err = run_case(case, world, tmp_path)
    assert status == 2 and f'epoch 1, {words}. Try a lower learning_rate' in err, err
    assert not list(tmp_path.rglob('*.pt'))


@pytest.mark.parametrize('command', [
    'train TINY --data_path W/pets --out_dir OUT',
    'evaluate W/cp/best.pt --data_path W/pets --out_dir OUT',
    'predict W/cp/best.pt W/pictures/good.png --out_dir OUT', 'compare COMPARE --folder OUT'])
def test_a_folder_that_is_not_yours(world, tmp_path, monkeypatch, command):
    "Root may write anywhere, so `mkdir` refuses here"
    mkdir = Path.mkdir
    def refuse(path, *args, **kwargs):
        if path.is_relative_to(tmp_path/'out'):
            raise PermissionError(13, 'Permission denied', str(path))
        return mkdir(path, *args, **kwargs)
    monkeypatch.setattr(Path, 'mkdir', refuse)
    status, _, err = run_case(command, world, tmp_path)
    assert status == 2 and err.count('\n') == 1 and str(tmp_path/'out') in err, err
    assert 'Permission denied' in err and 'name another' in err, err


def test_without_a_home_a_command_asks_for_one(world, tmp_path, monkeypatch):
    "In a container whose user is a number"
    for name in ('HOME', 'XDG_CACHE_HOME'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', Mock(side_effect=KeyError))
    status, _, err = run_case('train TINY --data_path W/pets --out_dir OUT', world, tmp_path)
    assert status == 2 and err.count('\n') == 1 and 'set HOME or XDG_CACHE_HOME' in err, err
    assert not (tmp_path/'out').exists()
    status, _, err = run_case('train TINY --data_path ~/pets', world, tmp_path)
    assert status == 2 and err.count('\n') == 1 and 'begin with ~' in err, err
    status, out, err = run('train', ['--help'])
    assert not status and not err and 'XDG_CACHE_HOME' in out


@pytest.mark.parametrize('kind', ['ENOLCK', 'ENOTSUP', 'ENOSYS'])
def test_a_cache_needs_a_file_system_with_locks(world, tmp_path, monkeypatch, kind):
    "Also where the locks of another machine lie in the folder, which has them"
    case = 'train TINY --data_path W/pets --out_dir OUT'
    assert run_case(case, world, tmp_path)[0] == 0
    number = getattr(errno, kind)
    refuse = Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr('fcntl.flock', refuse)
    status, _, err = run_case(case.replace('OUT', 'OUT/2'), world, tmp_path)
    assert status == 2 and err.count('\n') == 1 and os.strerror(number) in err, err
    assert f'{tmp_path}/cache/petseg_nb cannot be used for decoded pictures' in err, err
    assert 'set XDG_CACHE_HOME to a folder on another disk' in err, err
    assert not (tmp_path/'out/2').exists()


def test_a_cache_that_can_not_be_written(world, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(world/'file'))
    status, _, err = run_case('train TINY --data_path W/pets', world, tmp_path)
    assert status == 2 and err.count('\n') == 1, err
    assert 'file/petseg_nb cannot be used' in err and 'XDG_CACHE_HOME' in err, err
    with pytest.raises(ValueError, match='XDG_CACHE_HOME'):
        decode_once(scan_pets(world/'pets'), 16, world/'file')


def test_a_disk_that_is_too_small_is_noticed_before(world, tmp_path, monkeypatch):
    monkeypatch.setattr(core_pets.shutil, 'disk_usage', lambda folder: Mock(free=10**4))
    status, _, err = run_case('train TINY --size 1024 --data_path W/pets', world, tmp_path)
    assert status == 2 and err.count('\n') == 1 and 'petseg_nb has 0 MB left' in err, err
    assert 'need 20 MB: lower the size, or set XDG_CACHE_HOME' in err, err
    assert not list(tmp_path.rglob('*.npy')) and not (tmp_path/'out').exists()


@pytest.mark.parametrize('folder, words', [
    pytest.param(folder, words, id=folder)
    for folder, *words in rows(DATASETS) if ' ' not in folder])
def test_the_check_reads_whatever_lies_there(world, folder, words):
    "A table of defects or, where nothing can be checked, the line that a training ends with"
    before = tree(world)
    status, out, err = run('check_data', [str(world/folder)])
    if status:
        assert status == 2 and not out and err.count('\n') == 1, err
        assert all(part in err for part in words), err
    else: assert not err and out and not out.startswith('no defects'), out
    assert tree(world) == before


LARGE = """
import sys
from petseg_nb.core.images import allow_large_pictures, open_picture
allow_large_pictures()
with open_picture(sys.argv[1]) as image: print(image.size)
"""


def test_the_limit_of_pixels_can_be_raised(world):
    process = start(sys.executable, '-c', LARGE, world/'pictures'/'bomb.png', cwd=ROOT,
                    env=dict(PETSEG_MAX_PIXELS='500000000'))
    assert finish(process) == ('(20001, 20000)\n', '')
