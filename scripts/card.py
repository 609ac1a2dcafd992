"""Draw the picture that stands for the site where a link to it is shared: python scripts/card.py"""
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from petseg_nb.datasets.toy import draw_pet
from petseg_nb.masks import overlay, trimap_to_mask

image, trimap = draw_pet(np.random.default_rng(5), size=340, breed='toy_beagle')
mask = trimap_to_mask(trimap)
card = Image.new('RGB', (1200, 630), '#14344a')
for x, part in zip((60, 430, 800), (image, 255 * mask, overlay(image, mask, .6))):
    card.paste(Image.fromarray(part), (x, 60))
draw = ImageDraw.Draw(card)
draw.text((60, 430), 'petseg_nb', 'white', ImageFont.load_default(76))
draw.text((60, 530), 'Which pixels are the pet? Segmentation from scratch.', '#ffd27f',
          ImageFont.load_default(42))
card.quantize(256).save(Path(__file__).parent.parent/'nbs'/'images'/'card.png', optimize=True)
