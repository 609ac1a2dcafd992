"""Draw the README's two pictures: python scripts/picture.py RUN PETS

pets.png: toys, predicted by a RUN of `petseg_train`, and photographs, predicted by the package's
own model: picture, mask, cutout.
training.gif: the same photographs while a network learns from the folder PETS of Oxford-IIIT Pet, a
frame per epoch, played once."""
import sys
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from petseg_nb.checkpoints import model_for
from petseg_nb.cli.common import read_config
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import course_split, scan_pets
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES, cutout, mask_image, overlay
from petseg_nb.runs.fit import new_loaders
from petseg_nb.training import Callback, fit

SIDE, GAP, HEAD = 128, 4, 28 # pixels
IMAGES = Path(__file__).parent.parent/'nbs'/'images'
PHOTOS = [SAMPLES/'images'/f'{name}.jpg' for name in (
    'Abyssinian_24', 'american_bulldog_69', 'Bengal_43', 'american_bulldog_43')]


def square(path): return ImageOps.fit(Image.open(path).convert('RGB'), (SIDE, SIDE))


def column(picture, segmenter):
    "A picture, its predicted mask, and the pet cut out, on white"
    mask, paper = segmenter(picture), Image.new('RGB', picture.size, 'white')
    pet = cutout(picture, mask)
    paper.paste(pet, mask=pet)
    return picture, mask_image(mask), paper


def sheet(columns, head=0):
    "Columns of square pictures, with room above them"
    step = SIDE + GAP
    width, height = len(columns) * step - GAP, head + len(columns[0]) * step - GAP
    paper = Image.new('RGB', (width, height), 'white')
    for x, pictures in enumerate(columns):
        for y, picture in enumerate(pictures): paper.paste(picture, (x * step, head + y * step))
    return paper


class Film(Callback):
    "The photographs with the mask of each epoch over them"
    def begin(self, run): self.photos, self.frames = list(map(square, PHOTOS)), []
    def after_epoch(self, run):
        segmenter = Segmenter(run.average, run.config.size, 'fp32')
        frame = sheet([[Image.fromarray(overlay(np.asarray(photo), segmenter(photo)))]
                       for photo in self.photos], HEAD)
        text = 'epoch {epoch}: validation Dice {valid_dice:.2f}'.format(**run.history[-1])
        ImageDraw.Draw(frame).text((2, 2), text, 'black', ImageFont.load_default(18))
        self.frames.append(frame.quantize(128, dither=Image.Dither.NONE))


def draw_training(pets):
    "Train on the folder `pets`, and write the film"
    config = TrainConfig(str(pets), size=96, epochs=24, precision='fp32', device='cpu')
    film = Film()
    fit(model_for(config), new_loaders(config), config, callbacks=[film])
    first, *others = film.frames
    first.save(IMAGES/'training.gif', save_all=True, append_images=others, duration=400,
               optimize=True)


def main(run, pets):
    toys = course_split(scan_pets(read_config(Path(run)/'config.json').data_path))['test'][::12][:4]
    makers = [(Segmenter.load(Path(run)/'best.pt'), [record.image for record in toys]),
              (Segmenter.load(), PHOTOS)]
    columns = [column(square(path), segmenter) for segmenter, paths in makers for path in paths]
    sheet(columns).quantize(256).save(IMAGES/'pets.png', optimize=True)
    draw_training(pets)


if __name__ == '__main__': main(*sys.argv[1:])
