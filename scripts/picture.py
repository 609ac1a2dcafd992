"""Draw the picture at the top of the README from a run's folder: python scripts/picture.py runs/…"""
import shutil, sys
from pathlib import Path
import torch
from petseg_nb.cli import read_config
from petseg_nb.data import PetDataset, course_split, normalize, scan_pets
from petseg_nb.runs import load_checkpoint, new_model
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import draw_segmentation_masks, make_grid

run, root = Path(sys.argv[1]), Path(__file__).parent.parent
config = read_config(run)
records = course_split(scan_pets(config.data_path or 'data/toy_pets'))['test']
images, masks = map(torch.stack, zip(*(PetDataset(records[::8], config.size, config.border)[i] for i in range(7))))
model = new_model(config).eval()
model.load_state_dict(load_checkpoint(run/'best.pt')['weights'])
with torch.inference_mode(): pets = model(normalize(images)) > 0       # (B, 1, H, W)
rows = [images, masks.repeat(1, 3, 1, 1) * 255, pets.repeat(1, 3, 1, 1).byte() * 255,
        torch.stack([draw_segmentation_masks(i, p[0], .6, '#0072B2') for i, p in zip(images, pets)])]
picture = make_grid(torch.cat(rows), nrow=len(images), padding=3, pad_value=255)
(root/'images').mkdir(exist_ok=True)
to_pil_image(picture).quantize(256).save(root/'images'/'pets.png', optimize=True)
shutil.copy(root/'images'/'pets.png', root/'nbs'/'images'/'pets.png')
