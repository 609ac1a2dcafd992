"""What students hand in: `RIGHT` in many people's styles, `WRONG` with one bug each.

No bug here was known when the probes were written."""
import copy, random, sys
import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchmetrics.classification as tmc
import torchvision
from PIL import Image
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.transforms import v2
import my_petseg
from my_petseg import MyDoubleConv, MyPets, MyResBlock, MyUNet, my_dice, my_dice_loss
from petseg_nb.check import (check_dataset, check_dice_loss, check_double_conv, check_evaluate,
                             check_metric, check_res_block, check_resnet34_unet,
                             check_training_step, check_unet)


class Block(nn.Sequential): # milesial/Pytorch-UNet
    def __init__(self, i, o, middle=None, bias=False):
        middle = middle or o
        super().__init__(nn.Conv2d(i, middle, 3, padding=1, bias=bias),
                         nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
                         nn.Conv2d(middle, o, 3, padding=1, bias=bias),
                         nn.BatchNorm2d(o), nn.ReLU(inplace=True))

class Up(nn.Module):
    def __init__(self, i, o, bilinear):
        super().__init__()
        self.up = (nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True) if bilinear
                   else nn.ConvTranspose2d(i, i // 2, 2, stride=2))
        self.conv = Block(i, o, i // 2 if bilinear else None)
    def join(self, x, skip): return torch.cat([skip, x], dim=1)
    def forward(self, x, skip):
        x = self.up(x)
        dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        return self.conv(self.join(F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2]), skip))

class MilesialUNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=1, bilinear=False, w=8):
        super().__init__()
        f = 2 if bilinear else 1
        self.inc, self.outc = Block(n_channels, w), nn.Conv2d(w, n_classes, 1)
        self.downs = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), Block(w << i, (2*w << i) // (f if i == 3 else 1)))
            for i in range(4))
        self.ups = nn.ModuleList(
            Up(2*w << i, (w << i) // (f if i else 1), bilinear) for i in (3, 2, 1, 0))
    def down(self, x):
        maps = [self.inc(x)]
        for down in self.downs: maps.append(down(maps[-1]))
        return maps
    def forward(self, x):
        *skips, x = self.down(x)
        for up, skip in zip(self.ups, skips[::-1]): x = up(x, skip)
        return self.outc(x)

class ZeroHead(MilesialUNet):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.outc.weight)
        nn.init.zeros_(self.outc.bias)

class Bilinear(MilesialUNet):
    def __init__(self): super().__init__(bilinear=True)

def classes_first(num_classes=1, in_channels=3): return MyUNet(in_channels, num_classes)

class NoNorms(MyUNet): # biases, no BatchNorm, dropout, doubling by a kernel of 3
    def __init__(self):
        super().__init__()
        for m in self.modules():
            if isinstance(m, MyDoubleConv): m.bn1, m.bn2 = nn.Identity(), nn.Dropout2d(.1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(m.in_channels, m.out_channels, 3, 2, 1, 1) for m in self.up)

class InFunctions(nn.Module): # no layers, only parameters
    def __init__(self, i, o):
        super().__init__()
        self.a = nn.Parameter(torch.randn(o, i, 3, 3) / i)
        self.b = nn.Parameter(torch.randn(o, o, 3, 3) / o)
        self.na = nn.BatchNorm2d(o, eps=1e-3, momentum=.01)
        self.nb = nn.BatchNorm2d(o, momentum=None)
    def forward(self, x):
        x = F.relu(self.na(F.conv2d(x, self.a, padding=1)))
        return F.relu(self.nb(F.conv2d(x, self.b, padding='same')))

def basic_block(i, o, stride=1):
    project = None
    if stride > 1 or i != o:
        project = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
    return BasicBlock(i, o, stride, project)

def smp_unet(): return smp.Unet('resnet34', encoder_weights=None)
def smp_unet_plus_plus(): return smp.UnetPlusPlus('resnet34', encoder_weights=None)

class Torchvision(my_petseg.MyResNet34UNet):
    def __init__(self):
        super().__init__()
        r = torchvision.models.resnet34()
        self.stem, self.pool = nn.Sequential(r.conv1, r.bn1, r.relu), r.maxpool
        self.stages = nn.ModuleList([r.layer1, r.layer2, r.layer3, r.layer4])

def flat_dice_loss(z, m):
    p, m = z.sigmoid().view(-1), m.view(-1)
    return 1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)

def numpy_dice(p, m):
    return float(np.mean([2*(a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1
                          for a, b in zip(p.numpy() > .5, m.numpy() > .5)]))
def smp_iou(p, m):
    stats = smp.metrics.get_stats(p.long(), m.long(), mode='binary')
    return smp.metrics.iou_score(*stats, reduction='micro-imagewise')

class Albumented(MyPets):
    def __init__(self, folder):
        super().__init__(folder)
        self.transform = A.Compose([
            A.Resize(72, 72), A.RandomCrop(64, 64), A.HorizontalFlip(), A.Rotate(20),
            A.RandomBrightnessContrast(), A.Normalize()])
    def __getitem__(self, i):
        image = cv2.imread(str(self.folder/'images'/f'{self.names[i]}.jpg'))[..., ::-1].copy()
        trimap = cv2.imread(str(self.folder/'annotations'/'trimaps'/f'{self.names[i]}.png'),
                            cv2.IMREAD_GRAYSCALE)
        item = self.transform(image=image, mask=(trimap == 1).astype(np.uint8))
        return {'image': torch.from_numpy(item['image'].transpose(2, 0, 1)),
                'mask': torch.from_numpy(item['mask']).long(), 'name': self.names[i]}

class Seeded(Albumented):
    def __getitem__(self, i):
        self.transform.set_random_seed(int(torch.randint(2**31, ())))
        return super().__getitem__(i)

class Torchvisioned(MyPets):
    def __init__(self, folder): super().__init__(folder, 'valid')
    def __getitem__(self, i):
        image, mask = super().__getitem__(i)
        jitter = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(15),
                             v2.ColorJitter(.2, .2)])
        image = torchvision.tv_tensors.Image(((image + 2.2) / 5).clamp(0, 1))
        return jitter(image, torchvision.tv_tensors.Mask(mask))

class OfTorchvision(torchvision.datasets.OxfordIIITPet):
    def __init__(self, folder):
        size = [v2.PILToTensor(), v2.Resize((64, 64), v2.InterpolationMode.NEAREST)]
        to_mask = v2.Compose([*size, lambda t: (t != 2).float()])
        super().__init__(folder.parent, 'test', 'segmentation',
                         transform=v2.Compose(size), target_transform=to_mask)

def forgets_late(model, x, m, loss_fn, opt):
    model.train()
    loss = loss_fn(model(x), m)
    loss.backward()
    opt.step()
    opt.zero_grad()
    return loss.detach()

def bf16_clipped(model, x, m, loss_fn, opt):
    model.train()
    opt.zero_grad(set_to_none=True)
    with torch.autocast('cpu', torch.bfloat16): logits = model(x)
    loss = loss_fn(logits.float(), m)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), .05)
    opt.step()
    return loss.item()

def scaled(model, x, m, loss_fn, opt, unscale=True):
    model.train()
    opt.zero_grad()
    scaler = torch.amp.GradScaler('cpu')
    loss = loss_fn(model(x), m)
    scaler.scale(loss).backward()
    if unscale: scaler.unscale_(opt)
    nn.utils.clip_grad_norm_(model.parameters(), .05)
    scaler.step(opt)
    scaler.update()
    return float(loss)

@torch.inference_mode()
def pooled(model, loader):
    model.eval()
    overlap = total = 0
    for x, m in loader:
        p = model(x).sigmoid() > .5
        overlap += (p & m.bool()).sum().item()
        total += p.sum().item() + m.sum().item()
    return {'loss': 0., 'dice': 2 * overlap / max(total, 1)}


def valid_pets(folder): return MyPets(folder, 'valid')

RIGHT = [
    (check_double_conv, Block, {}), (check_double_conv, InFunctions, {}),
    (check_res_block, basic_block, {}),
    (check_unet, MilesialUNet, {}), (check_unet, Bilinear, {}), (check_unet, ZeroHead, {}),
    (check_unet, NoNorms, {}), (check_unet, classes_first, {}),
    (check_resnet34_unet, smp_unet, {}), (check_resnet34_unet, smp_unet_plus_plus, {}),
    (check_resnet34_unet, Torchvision, {}),
    (check_dice_loss, smp.losses.DiceLoss('binary', from_logits=True), {}),
    (check_dice_loss, flat_dice_loss, {}),
    (check_dice_loss, smp.losses.DiceLoss('binary', from_logits=False),
     dict(inputs='probabilities')),
    (check_metric, numpy_dice, {}), (check_metric, tmc.BinaryF1Score, {}),
    (check_metric, tmc.BinaryF1Score(), dict(inputs='probabilities')),
    (check_metric, tmc.BinaryJaccardIndex, dict(score='iou')),
    (check_metric, smp_iou, dict(score='iou')),
    (check_dataset, Seeded, dict(augmented=True)),
    (check_dataset, Torchvisioned, dict(augmented=True)),
    (check_dataset, OfTorchvision, dict(augmented=False)),
    (check_training_step, forgets_late, {}), (check_training_step, bf16_clipped, {}),
    (check_training_step, scaled, {}),
    (check_evaluate, pooled, {}),
]


class MomentumOne(MyDoubleConv):
    def __init__(self, i, o):
        super().__init__(i, o)
        self.bn1.momentum = 1.
class OneSided(MyDoubleConv):
    def __init__(self, i, o):
        super().__init__(i, o)
        self.conv1 = nn.Sequential(nn.ZeroPad2d((2, 0, 2, 0)), nn.Conv2d(i, o, 3))
class FrozenNorm(MyDoubleConv):
    def train(self, mode=True):
        super().train(mode)
        self.bn1.eval()
        return self
class DropoutStays(MyDoubleConv):
    def forward(self, x): return F.dropout(super().forward(x), .1)
class Concatenated(MyResBlock):
    def forward(self, x): return torch.cat([super().forward(x), self.shortcut(x)], 1)
class SecondStride(MyResBlock):
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        self.conv1.stride, self.conv2.stride = 1, stride
class NoShortcutNorm(MyResBlock):
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        if i != o: self.shortcut = self.shortcut[0]

def joined(how):
    "A U-Net whose skips are joined by `how(x, skip)`"
    class Joined(MilesialUNet):
        def __init__(self):
            super().__init__()
            for up in self.ups: up.join = how
    return Joined
def transposed(x, skip):
    square = skip.shape[2] == skip.shape[3]
    return torch.cat([skip.transpose(2, 3) if square else skip, x], 1)
class AfterPooling(MilesialUNet):
    def down(self, x):
        *maps, bottom = super().down(x)
        return [*(F.interpolate(F.max_pool2d(m, 2), scale_factor=2) for m in maps), bottom]
class TwoSigmoids(MilesialUNet):
    def forward(self, x): return super().forward(x).sigmoid()
class EvalInside(MilesialUNet):
    def forward(self, x):
        self.eval()
        return super().forward(x)
class NormalisesByBatch(MilesialUNet):
    def forward(self, x): return super().forward((x - x.mean()) / x.std())
class NoStemRelu(Torchvision):
    def __init__(self):
        super().__init__()
        self.stem = self.stem[:2]
class SmallPool(Torchvision):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
class FrozenStage(Torchvision):
    def train(self, mode=True):
        super().train(mode)
        self.stages[1].eval()
        return self

def ratio(p, m): return 1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
def squeezed_loss(z, m): return ratio(z.sigmoid().squeeze(1), m)
def by_channel(z, m):
    return 1 - ((2 * (z.sigmoid() * m).sum(1) + 1) / ((z.sigmoid() + m).sum(1) + 1)).mean()
def detached(z, m): return ratio(z.sigmoid().detach(), m)
def by_data(z, m): return ratio(z.data.sigmoid(), m)
def rounded(z, m): return ratio(z.sigmoid().round(), m)
def half_detached(z, m):
    return 1 - (2 * (z.sigmoid() * m).sum() + 1) / (z.sigmoid().sum().detach() + m.sum() + 1)
def bce_too(z, m): return my_dice_loss(z, m) + F.binary_cross_entropy_with_logits(z, m)
def no_parentheses(z, m): return 1 - 2 * (z.sigmoid() * m).sum() / z.sigmoid().sum() + m.sum()
def last_picture(z, m): return my_dice_loss(z[-1:], m[-1:])

def squeezed_dice(p, m): return 2 * (p.squeeze(1) * m).sum() / (p.sum() + m.sum())
def twice_iou(p, m): return 2 * (p.bool() & m.bool()).sum() / (p.bool() | m.bool()).sum()
def over_batch(p, m): return (2 * (p * m).sum(0) / ((p + m).sum(0) + 1e-6)).mean()
def integer(p, m): return 2 * (p * m).sum() // (p.sum() + m.sum())
def low_threshold(p, m): return my_dice((p > .44).float(), m)
class BatchMeans:
    def __init__(self): self.scores = []
    def update(self, p, m): self.scores.append(my_dice(p, m).mean())
    def compute(self): return sum(self.scores) / len(self.scores)

def pets(change):
    "A dataset whose items are `change(image, mask)`, both as they should be"
    class Pets(MyPets):
        def __getitem__(self, i): return change(*MyPets.__getitem__(self, i))
    return Pets
def crops_image(x, m):
    top, left = random.randrange(17), random.randrange(17)
    return F.interpolate(x[None, :, top:top + 48, left:left + 48], size=64)[0], m
def flips_apart(x, m): return v2.RandomHorizontalFlip()(x), v2.RandomHorizontalFlip()(m)
def brighter_uint8(x, m): return ((x * .225 + .45) * 255).byte() + 60, m
def views(x, m): return x.permute(1, 2, 0).contiguous().view(3, 64, 64), m
class SameItem(MyPets):
    def __getitem__(self, i): return super().__getitem__(0)
class TooLong(MyPets):
    def __len__(self): return 2 * super().__len__()
class TestPictures(MyPets):
    __test__ = False
    def __init__(self, folder):
        super().__init__(folder)
        self.names = sorted(path.stem for path in (self.folder/'images').iterdir())
class SmoothTrimap(MyPets):
    def __getitem__(self, i):
        trimap = Image.open(self.folder/'annotations'/'trimaps'/f'{self.names[i]}.png')
        trimap = trimap.resize((64, 64), Image.BILINEAR)
        return super().__getitem__(i)[0], torch.from_numpy(np.array(trimap) != 2)[None].float()
class MasksBeside(MyPets):
    def __getitem__(self, i):
        return super().__getitem__(i)[0], super().__getitem__((i + 1) % len(self))[1]

def step(predict=lambda model, x: model(x), lose=lambda loss_fn, z, m: loss_fn(z, m),
         before=lambda opt: None, passes=1):
    "A step in which one thing is done differently"
    def my_step(model, x, m, loss_fn, opt):
        model.train()
        opt.zero_grad()
        loss = lose(loss_fn, predict(model, x), m)
        for _ in range(passes): loss.backward(retain_graph=True)
        before(opt)
        opt.step()
        return loss.item()
    return my_step
def new_optimizer(model, x, m, loss_fn, opt):
    return my_petseg.my_step(model, x, m, loss_fn, torch.optim.Adam(model.parameters(), 1e-3))
def other_model(model, x, m, loss_fn, opt):
    return my_petseg.my_step(copy.deepcopy(model), x, m, loss_fn, opt)
def clips_scaled(*args): return scaled(*args, unscale=False)
def exits(*_): sys.exit(0)

def evaluation(threshold=0., mode=False, grad=False,
               mean=lambda scores: torch.cat(scores).mean().item()):
    "An evaluation in which one thing is done differently"
    def evaluate(model, loader):
        model.train(mode)
        with torch.set_grad_enabled(grad):
            return mean([my_dice((model(x) > threshold).float(), m) for x, m in loader])
    return evaluate
def mean_of_means(scores): return (sum(s.mean() for s in scores) / len(scores)).item()
def searched(model, loader): # the threshold is chosen on the pictures that are scored
    model.eval()
    with torch.no_grad(): pairs = [(model(x).sigmoid(), m) for x, m in loader]
    p, m = map(torch.cat, zip(*pairs))
    return max(my_dice((p > t).float(), m).mean().item() for t in np.arange(.1, .95, .1))
def freezes(model, loader):
    for p in model.parameters(): p.requires_grad_(False)
    return evaluation()(model, loader)
class FifthRepeats(MyPets):
    def __getitem__(self, i): return super().__getitem__(i - 1 if i % 5 == 4 else i)
class RawTrimap(MyPets):
    def __getitem__(self, i):
        trimap = Image.open(self.folder/'annotations'/'trimaps'/f'{self.names[i]}.png')
        trimap = trimap.resize((64, 64), Image.NEAREST)
        return super().__getitem__(i)[0], torch.from_numpy(np.array(trimap))[None].long()
class ClampEnd(MilesialUNet):
    def forward(self, x): return super().forward(x).clamp(0, 1)
class ForgotShortcut(MyResBlock):
    def forward(self, x): return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
def clamped_loss(z, m): return ratio(z.clamp(0, 1), m)
def tanh_loss(z, m): return ratio(z.tanh(), m)

def accumulates(model, x, m, loss_fn, opt): # gradients of two halves of the batch are added
    model.train()
    opt.zero_grad()
    total = 0.
    for a, b in zip(x.chunk(2), m.chunk(2)):
        loss = loss_fn(model(a), b) / 2
        loss.backward()
        total += loss.item()
    opt.step()
    return total
def block_of(norm, act):
    return lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), norm(o), act(),
                                      nn.Conv2d(o, o, 3, padding=1), norm(o), act())
class GroupRes(MyResBlock):
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        self.bn1, self.bn2 = nn.GroupNorm(4, o), nn.GroupNorm(4, o)
        if not isinstance(self.shortcut, nn.Identity): self.shortcut[1] = nn.GroupNorm(4, o)
class LeakyRes(MyResBlock):
    def forward(self, x):
        y = F.leaky_relu(self.bn1(self.conv1(x)), .1)
        return F.leaky_relu(self.bn2(self.conv2(y)) + self.shortcut(x), .1)
def skips_empty(model, loader):
    filled = [(x[keep], m[keep]) for x, m in loader
              if len(keep := m.sum((1, 2, 3)).nonzero().flatten())]
    return evaluation()(model, filled)
def empty_is_zero(p, m):
    return (2 * (p * m).sum((1, 2, 3)) / ((p + m).sum((1, 2, 3)) + 1e-7)).mean()
def empty_is_skipped(p, m):
    keep = m.sum((1, 2, 3)) > 0
    return my_dice(p[keep], m[keep]).mean() if keep.any() else 1.

NOTED = [ # right, but not as it was asked for: checker, what is checked, flags, words of the note
    (check_double_conv, block_of(nn.BatchNorm2d, lambda: nn.LeakyReLU(.1)), {},
     'this is a DoubleConv with LeakyReLU'),
    (check_double_conv, block_of(lambda o: nn.GroupNorm(4, o), nn.ReLU), {},
     'this is a DoubleConv with GroupNorm'),
    (check_res_block, GroupRes, {}, 'this is a residual block with GroupNorm'),
    (check_res_block, LeakyRes, {}, 'with LeakyReLU'),
    (check_training_step, accumulates, {}, 'in 2 parts, whose gradients are added'),
    (check_metric, empty_is_zero, {}, 'two empty masks agree, and score 0 here'),
    (check_metric, empty_is_skipped, {}, 'is skipped'),
    (check_evaluate, skips_empty, {}, 'is skipped'),
]

WRONG = [ # checker, what is checked, flags, words of the report
    (check_double_conv, MomentumOne, {}, 'those of the last batch alone'),
    (check_double_conv, OneSided, {}, 'not the same on all sides'),
    (check_double_conv, FrozenNorm, {}, 'it is frozen'),
    (check_double_conv, DropoutStays, {}, 'F.dropout needs training'),
    (check_res_block, Concatenated, {}, 'the shortcut is concatenated'),
    (check_res_block, SecondStride, {}, 'the second convolution has the stride'),
    (check_res_block, NoShortcutNorm, {},
     'the projection of the shortcut is not followed by BatchNorm'),
    (check_unet, AfterPooling, {}, 'is halved, and used nowhere else'),
    (check_unet, joined(lambda x, skip: torch.cat([skip, x], 0)), {},
     'joins another dimension'),
    (check_unet, joined(lambda x, skip: F.interpolate(
        torch.cat([skip, x], 2), size=x.shape[2:]).repeat(1, 2, 1, 1)), {}, 'channels are dim=1'),
    (check_unet, joined(lambda x, skip: torch.cat([skip.roll((1, 1), (2, 3)), x], 1)), {},
     '+1 rows and +1 columns off its place'),
    (check_unet, joined(lambda x, skip: torch.cat([skip.flip(3), x], 1)), {},
     'left and right are swapped'),
    (check_unet, joined(transposed), {}, 'height and width are swapped'),
    (check_unet, TwoSigmoids, {}, 'a sigmoid at the end'),
    (check_unet, EvalInside, {}, 'eval() is called in the model'),
    (check_unet, NormalisesByBatch, {}, 'the other pictures of the batch change the output'),
    (check_resnet34_unet, NoStemRelu, {}, 'the stem'),
    (check_resnet34_unet, SmallPool, {}, 'the pooling (maximum of 3×3'),
    (check_resnet34_unet, FrozenStage, {}, 'it is frozen'),
    (check_dice_loss, squeezed_loss, {}, '(B, H, W) and (B, 1, H, W) meet'),
    (check_dice_loss, by_channel, {}, 'pixel by pixel'),
    (check_dice_loss, detached, {}, 'the graph is cut: detach()'),
    (check_dice_loss, by_data, {}, 'the graph is cut: detach()'),
    (check_dice_loss, rounded, {}, 'there is a threshold in it'),
    (check_dice_loss, half_detached, {}, 'a part of the formula is cut off'),
    (check_dice_loss, bce_too, {}, 'it is BCE + Dice'),
    (check_dice_loss, no_parentheses, {}, 'parentheses are missing'),
    (check_dice_loss, last_picture, {}, 'only the last picture counts'),
    (check_metric, squeezed_dice, {}, '(B, H, W) and (B, 1, H, W) meet'),
    (check_metric, twice_iou, {}, 'the denominator is the union'),
    (check_metric, over_batch, {}, 'the sums run over the batch'),
    (check_metric, integer, {}, '// or int() round down'),
    (check_metric, low_threshold, dict(inputs='probabilities'), 'where Dice gives'),
    (check_metric, BatchMeans, {}, 'the mean of the batch means'),
    (check_dataset, pets(crops_image), {}, 'both need the same crop'),
    (check_dataset, pets(flips_apart), {}, 'got different flips'),
    (check_dataset, pets(brighter_uint8), {}, '200 + 60 is 4'),
    (check_dataset, pets(lambda x, m: (x.flip(0), m)), {}, 'cv2.imread gives BGR'),
    (check_dataset, pets(lambda x, m: (x, 255 * m)), {}, '255 is pet here'),
    (check_dataset, pets(views), {}, 'the outlines of the masks lie on no edges'),
    (check_dataset, pets(lambda x, m: (x.transpose(1, 2), m)), {},
     'one of the two is always changed'),
    (check_dataset, SameItem, {}, 'does not use its index'),
    (check_dataset, TooLong, {}, 'and there is no item'),
    (check_dataset, TestPictures, {}, 'are listed in test.txt'),
    (check_dataset, SmoothTrimap, {}, 'the trimap was resized bilinearly'),
    (check_dataset, MasksBeside, {}, 'off by one'),
    (check_dataset, MyPets, dict(augmented=False), 'must not be augmented'),
    (check_dataset, Albumented, dict(augmented=True), 'its own random generator'),
    (check_dataset, valid_pets, dict(augmented=True), 'there is no augmentation'),
    (check_training_step, new_optimizer, {}, 'step of another optimizer'),
    (check_training_step, other_model, {}, 'a copy of the model is trained'),
    (check_training_step, step(before=lambda opt: opt.zero_grad()), {},
     'it throws the gradient away'),
    (check_training_step, step(passes=2), {}, 'backward() runs more than once'),
    (check_training_step, step(predict=lambda model, x: model(x).detach().requires_grad_()), {},
     'no gradient reaches the weights'),
    (check_training_step, step(predict=lambda model, x: model(x / 255)), {},
     'divided by 255 twice'),
    (check_training_step, step(lose=lambda loss_fn, z, m: loss_fn(z[:1], m[:1])), {},
     'only a part of the batch'),
    (check_training_step, step(lose=lambda loss_fn, z, m: -loss_fn(z, m)), {},
     'move up the gradient'),
    (check_training_step, step(predict=lambda model, x: [model(x) for _ in range(2)][1]), {},
     'called 2 times'),
    (check_training_step, step(predict=lambda model, x: model(x.flip(3))), {},
     'did not get the pictures of the batch'),
    (check_training_step, clips_scaled, {}, 'call scaler.unscale_(optimizer) before'),
    (check_training_step, exits, {}, 'sys.exit()'),
    (check_evaluate, evaluation(mode=True), {}, 'model.eval() is missing'),
    (check_evaluate, evaluation(grad=True), {}, 'inference_mode() is missing'),
    (check_evaluate, evaluation(mean=lambda scores: 100 * torch.cat(scores).mean()), {},
     'it is in percent'),
    (check_evaluate, evaluation(.5), {}, 'the threshold 0.5 is applied to logits'),
    (check_evaluate, evaluation(mean=mean_of_means), {}, 'the mean of the batch means'),
    (check_evaluate, evaluation(mean=lambda scores: max(s.mean() for s in scores)), {},
     'Dice of the best batch'),
    (check_evaluate, searched, {}, 'chosen on the pictures that are scored'),
    (check_evaluate, freezes, {}, 'they are frozen'),
    (check_dataset, FifthRepeats, {}, 'an index is changed before it is used'),
    (check_unet, ClampEnd, {}, 'clamped to 0 to 1'),
    (check_dice_loss, clamped_loss, {}, 'clamped to 0 to 1'),
    (check_dice_loss, tanh_loss, {}, 'a tanh takes the place'),
    (check_res_block, ForgotShortcut, {}, 'forward does not add it'),
    (check_dataset, RawTrimap, {}, 'this is the trimap'),
]
