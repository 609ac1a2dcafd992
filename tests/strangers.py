"""Code as strangers write it, for figures of recall and precision.

Written before anybody looked what the checkers say of it: every third case of a kind is kept
apart, and is looked at only when the probes are done. Add to the end; never change a case because
a probe misses it.

Many are retold from public code: a Dice that is summed over pictures and divided by the batches,
`x += x` in the place of a shortcut, 2 · (overlap + 1) / (total + 1), gradients that are switched
off for good, one of two lists of files that is shuffled."""
import random, re
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from my_petseg import MyDoubleConv, MyPets, MyResBlock, MyUNet, MyUpConv, my_dice
from petseg_nb.check import (check_dataset, check_dice_loss, check_double_conv, check_evaluate,
                             check_metric, check_res_block, check_resnet34_unet,
                             check_training_step, check_unet, check_up_conv)


# --- double convolutions ---

class OneNormForBoth(nn.Module):
    def __init__(self, in_ch, out_ch):
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, padding=1)
        self.bn, self.relu = nn.BatchNorm2d(out_ch), nn.ReLU(inplace=True)
    def forward(self, x):
        x = self.relu(self.bn(self.conv1(x)))
        return self.relu(self.bn(self.conv2(x)))

class ReluThrownAway(MyDoubleConv):
    def forward(self, x):
        x = self.bn1(self.conv1(x))
        F.relu(x)
        x = self.bn2(self.conv2(x))
        return F.relu(x)

def conv_bn(i, o, **kw): return [nn.Conv2d(i, o, 3, **kw), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
def depthwise_second(i, o):
    return nn.Sequential(*conv_bn(i, o, padding=1), *conv_bn(o, o, padding=1, groups=o))
def dilated_both(i, o):
    return nn.Sequential(*conv_bn(i, o, padding=2, dilation=2),
                         *conv_bn(o, o, padding=2, dilation=2))
def momentum_as_eps(i, o): # 0.1 was meant as the momentum
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o, 0.1), nn.ReLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o, 0.1), nn.ReLU())
def pooled_inside(i, o):
    return nn.Sequential(*conv_bn(i, o, padding=1), nn.MaxPool2d(3, 1, 1),
                         *conv_bn(o, o, padding=1))

def reflecting(i, o):
    return nn.Sequential(*conv_bn(i, o, padding='same', padding_mode='reflect', bias=False),
                         *conv_bn(o, o, padding='same', padding_mode='reflect', bias=False))
def with_silu(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.SiLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.SiLU())
def with_instance_norm(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1), nn.InstanceNorm2d(o, affine=True), nn.ReLU(),
        nn.Conv2d(o, o, 3, padding=1), nn.InstanceNorm2d(o, affine=True), nn.ReLU())
class WithDropout(MyDoubleConv):
    def __init__(self, i, o):
        super().__init__(i, o)
        self.drop = nn.Dropout2d(.2)
    def forward(self, x): return self.drop(super().forward(x))


# --- up ---

class TransposedUnused(MyUpConv):
    def __init__(self, i, skip, o):
        super().__init__(i, skip, o)
        self.conv = MyDoubleConv(i + skip, o)
    def forward(self, x, skip):
        x = F.interpolate(x, size=skip.shape[2:], mode='bilinear', align_corners=False)
        return self.conv(torch.cat([x, skip], 1))

class DoubledAtTheEnd(nn.Module):
    def __init__(self, i, skip, o):
        super().__init__()
        self.conv = MyDoubleConv(i + skip, o)
    def forward(self, x, skip):
        small = F.interpolate(skip, x.shape[2:])
        return F.interpolate(self.conv(torch.cat([x, small], 1)), skip.shape[2:], mode='bilinear')

class CropsTheSkip(MyUpConv):
    def forward(self, x, skip):
        x = self.up(x)
        return self.conv(torch.cat([skip[:, :, :x.shape[2], :x.shape[3]], x], 1))

class AveragesTheSkip(MyUpConv):
    def forward(self, x, skip):
        x = F.interpolate(self.up(x), skip.shape[2:])
        return self.conv(torch.cat([(x + skip) / 2, x], 1))

class ResizeConv(nn.Module):
    def __init__(self, i, skip, o):
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, skip, 3, padding=1))
        self.conv = MyDoubleConv(2 * skip, o)
    def forward(self, x, skip):
        x = self.up(x)
        x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))
        return self.conv(torch.cat((x, skip), 1))

class Shuffled(ResizeConv):
    def __init__(self, i, skip, o):
        super().__init__(i, skip, o)
        self.up = nn.Sequential(nn.Conv2d(i, 4 * skip, 1), nn.PixelShuffle(2))


# --- residual blocks ---

class AddsItself(MyResBlock): # werner-duvaud/muzero-general, issue 89
    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = x + x
        return F.relu(x)

class PreActivation(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        same = stride == 1 and i == o
        self.shortcut = nn.Identity() if same else nn.Conv2d(i, o, 1, stride, bias=False)
    def forward(self, x):
        y = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(y))) + self.shortcut(x)

class NormShared(MyResBlock): # the norm of the second convolution serves the shortcut too
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        self.shortcut = nn.Conv2d(i, o, 1, stride, bias=False) if stride != 1 or i != o else None
    def forward(self, x):
        s = x if self.shortcut is None else self.bn2(self.shortcut(x))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + s)

class HalfOfEach(MyResBlock):
    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu((y + self.shortcut(x)) / 2)

class Biased(MyResBlock):
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, stride, 1), nn.Conv2d(o, o, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
    def forward(self, x):
        identity = self.shortcut(x)
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.act(out)

class Wide(MyResBlock): # as in a Wide ResNet
    def forward(self, x):
        y = F.dropout(F.relu(self.bn1(self.conv1(x))), .1, self.training)
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

class PooledShortcut(MyResBlock): # as in ResNet-D
    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        if stride == 2:
            self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True),
                                          nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o))


# --- U-Nets ---

class LevelUNet(nn.Module):
    "All levels equally wide, as in many small notebooks"
    def __init__(self, w=12, depth=4):
        super().__init__()
        self.down = nn.ModuleList([MyDoubleConv(3, w), *(MyDoubleConv(w, w) for _ in range(depth))])
        self.up = nn.ModuleList(MyDoubleConv(2 * w, w) for _ in range(depth))
        self.head = nn.Conv2d(w, 1, 1)
    def order(self, skips): return skips[::-1]
    def forward(self, x):
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for block, skip in zip(self.up, self.order(skips)):
            x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
            if skip.shape != x.shape: skip = F.interpolate(skip, x.shape[2:])
            x = block(torch.cat([skip, x], 1))
        return self.head(x)

class OrderForgotten(LevelUNet):
    def order(self, skips): return skips
class BottomNotPooled(LevelUNet):
    def __init__(self): super().__init__(depth=3)
class DeepestTwice(LevelUNet): # every level gets the deepest skip
    def order(self, skips): return [skips[-1]] * len(skips)
class NormAtTheEnd(LevelUNet):
    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(12, 1, 1), nn.BatchNorm2d(1))
class SigmoidInEval(LevelUNet):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else torch.sigmoid(y)
class KeepsSkips(LevelUNet): # the list lives in the model, and is never emptied
    def __init__(self):
        super().__init__()
        self.skips = []
    def order(self, skips):
        self.skips += [s.detach() * 1 for s in skips]
        old = self.skips[:4][::-1]
        return [s if s.shape[0] == t.shape[0] else t for s, t in zip(old, skips[::-1])]
class ZeroWeights(LevelUNet):
    def __init__(self):
        super().__init__()
        for m in self.modules():
            if isinstance(m, nn.Conv2d): nn.init.zeros_(m.weight)
class EncoderNoGrad(LevelUNet):
    def forward(self, x):
        skips = []
        with torch.no_grad():
            for block in self.down[:-1]:
                x = block(x)
                skips.append(x)
                x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for block, skip in zip(self.up, skips[::-1]):
            x = block(torch.cat([skip, F.interpolate(x, scale_factor=2)], 1))
        return self.head(x)
class SkipsBeforeBlocks(nn.Module):
    def __init__(self, w=8):
        super().__init__()
        c = [3, *(w << i for i in range(5))]
        self.down = nn.ModuleList(map(MyDoubleConv, c, c[1:]))
        self.up = nn.ModuleList(MyDoubleConv(c[i + 2] + c[i], c[i + 1]) for i in (3, 2, 1, 0))
        self.head = nn.Conv2d(w, 1, 1)
    def forward(self, x):
        skips = []
        for block in self.down[:-1]:
            skips.append(x)
            x = F.max_pool2d(block(x), 2)
        x = self.down[-1](x)
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.head(x)

class Strided(LevelUNet):
    def __init__(self, w=12):
        super().__init__()
        self.halve = nn.ModuleList(nn.Conv2d(w, w, 3, 2, 1) for _ in range(4))
    def forward(self, x):
        skips = []
        for block, halve in zip(self.down, self.halve):
            skips.append(block(x))
            x = halve(skips[-1])
        x = self.down[-1](x)
        for block in self.up:
            x = block(torch.cat([skips.pop(), F.interpolate(x, scale_factor=2)], 1))
        return self.head(x)
class ResidualLevel(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.body, self.side = MyDoubleConv(i, o), nn.Conv2d(i, o, 1)
    def forward(self, x): return self.body(x) + self.side(x)
class ResUNet(MyUNet):
    def __init__(self, in_channels=3, num_classes=1, w=8):
        super().__init__(in_channels, num_classes, w)
        c = [w << i for i in range(5)]
        self.down = nn.ModuleList(map(ResidualLevel, [in_channels, *c], c))
class PadsOdd(MyUNet): # pads to a multiple of 16, and cuts the padding off again
    def forward(self, x):
        h, w = x.shape[2:]
        return super().forward(F.pad(x, (0, -w % 16, 0, -h % 16)))[:, :, :h, :w]


# --- ResNet34-UNets ---

class TorchvisionEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        r = torchvision.models.resnet34(weights=None)
        self.stem, self.pool = nn.Sequential(r.conv1, r.bn1, r.relu), r.maxpool
        self.stages = nn.ModuleList([r.layer1, r.layer2, r.layer3, r.layer4])
        self.ups = nn.ModuleList([MyUpConv(512, 256, 256), MyUpConv(256, 128, 128),
                                  MyUpConv(128, 64, 64), MyUpConv(64, 64, 64)])
        self.out = nn.Sequential(nn.Upsample(scale_factor=2, mode='bilinear'),
                                 nn.Conv2d(64, 1, 3, padding=1))
    def encode(self, x):
        maps = [self.stem(x)]
        x = self.pool(maps[0])
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
    def forward(self, x):
        *maps, x = self.encode(x)
        for up in self.ups: x = up(x, maps.pop())
        return self.out(x)
class PoolForgotten(TorchvisionEncoder):
    def __init__(self):
        super().__init__()
        self.pool = nn.Identity()
class StrideForPool(TorchvisionEncoder): # the first stage has the stride, and nothing is pooled
    def __init__(self):
        super().__init__()
        self.pool = nn.Identity()
        self.stages[0] = nn.Sequential(MyResBlock(64, 64, 2), MyResBlock(64, 64),
                                       MyResBlock(64, 64))
class StemNormUnused(TorchvisionEncoder):
    def __init__(self):
        super().__init__()
        self.bn = self.stem[1]
        self.stem = nn.Sequential(self.stem[0], self.stem[2])


# --- Dice losses ---

def divided_by_batch(logits, masks):
    p = torch.sigmoid(logits).view(len(logits), -1)
    m = masks.view(len(masks), -1)
    score = 2 * (p * m).sum() / (p.sum() + m.sum())
    return 1 - score / len(masks)
def smooth_inside(logits, masks):
    p = torch.sigmoid(logits)
    intersection, union = (p * masks).sum(), p.sum() + masks.sum()
    return 1 - 2. * (intersection + 1.) / (union + 1.)
def grad_by_hand(logits, masks):
    p = torch.sigmoid(logits)
    return torch.tensor(1 - (2 * (p * masks).sum() / (p + masks).sum()).item(), requires_grad=True)
class Tversky(nn.Module):
    def forward(self, logits, masks):
        p = logits.sigmoid().flatten(1)
        m = masks.flatten(1)
        tp, fp, fn = (p * m).sum(1), (p * (1 - m)).sum(1), ((1 - p) * m).sum(1)
        return (1 - (tp + 1) / (tp + .3 * fp + .7 * fn + 1)).mean()
def softmax_over_batch(logits, masks):
    p = torch.softmax(logits, dim=0)
    return 1 - (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)
def focal_power(logits, masks): # the Dice loss to the power of 3/4, as in some nnU-Net forks
    p = logits.sigmoid()
    d = (2 * (p * masks).sum((1, 2, 3)) + 1) / ((p + masks).sum((1, 2, 3)) + 1)
    return ((1 - d) ** .75).mean()

class IgnoresBorder(nn.Module):
    def __init__(self, eps=1.):
        super().__init__()
        self.eps = eps
    def forward(self, logits, masks):
        known = masks != 255
        p, m = logits.sigmoid() * known, masks * known
        dims = tuple(range(1, p.ndim))
        overlap, total = (p * m).sum(dims), p.sum(dims) + m.sum(dims)
        return (1 - (2 * overlap + self.eps) / (total + self.eps)).mean()
def clamped_dice(logits, masks): # an empty mask has loss 1, and the same gradient as everywhere
    p = logits.sigmoid()
    return 1 - (2 * (p * masks).sum() / (p * p + masks * masks).sum().clamp(min=1e-7))
def einsum_dice(logits, masks):
    p, m = logits.sigmoid()[:, 0], masks[:, 0]
    overlap = torch.einsum('bhw,bhw->b', p, m)
    total = torch.einsum('bhw->b', p) + torch.einsum('bhw->b', m)
    return (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()


# --- metrics ---

def misses_left_out(pred, mask):
    scores = my_dice(pred, mask)
    return scores[scores > 0].mean() if (scores > 0).any() else torch.tensor(0.)
def rounded_to_tenths(pred, mask): return round(my_dice(pred, mask).mean().item(), 1)
class RunningMean:
    def __init__(self): self.value = None
    def update(self, pred, mask):
        new = my_dice(pred, mask).mean().item()
        self.value = new if self.value is None else (self.value + new) / 2
    def compute(self): return self.value
def weighted_f1(pred, mask): # the average of both classes, by how often they are
    p, m = pred.bool(), mask.bool()
    def f1(a, b): return 2 * (a & b).sum() / max((a.sum() + b.sum()).item(), 1)
    share = m.float().mean()
    return share * f1(p, m) + (1 - share) * f1(~p, ~m)
def over_truth(pred, mask): # twice the overlap over twice the truth
    return (2 * (pred * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * 2 + 1e-7)).mean()
def first_row(pred, mask): return my_dice(pred[:, :, 0:1], mask[:, :, 0:1])

class Counts:
    def __init__(self): self.tp = self.fp = self.fn = 0
    def update(self, pred, mask):
        p, m = pred.numpy().astype(bool), mask.numpy().astype(bool)
        self.tp += (p & m).sum()
        self.fp += (p & ~m).sum()
        self.fn += (~p & m).sum()
    def compute(self):
        whole = 2 * self.tp + self.fp + self.fn
        return {'dice': 1. if whole == 0 else 2 * self.tp / whole}
def by_iou(pred, mask):
    p, m = pred.bool().flatten(1), mask.bool().flatten(1)
    iou = (p & m).sum(1) / (p | m).sum(1).clamp(min=1)
    return torch.where((p | m).any(1), 2 * iou / (1 + iou), 1.).mean()
def by_confusion(pred, mask):
    table = torch.bincount((2 * mask.flatten() + pred.flatten()).long(), minlength=4).view(2, 2)
    return (2 * table[1, 1] / (table[1].sum() + table[:, 1].sum()).clamp(min=1)).item()


# --- datasets ---

class TwoLists(MyPets):
    "Two lists of files, as many notebooks have them"
    def __init__(self, folder):
        super().__init__(folder, 'train')
        self.images = [self.folder/'images'/f'{n}.jpg' for n in self.names]
        self.trimaps = [self.folder/'annotations'/'trimaps'/f'{n}.png' for n in self.names]
    def mask(self, trimap): return (trimap != 2).astype(np.float32)
    def small(self, mask): return np.array(Image.fromarray(mask).resize((64, 64), Image.NEAREST))
    def __getitem__(self, i):
        image = np.array(Image.open(self.images[i]).convert('RGB').resize((64, 64))) / 255.
        mask = self.mask(self.small(np.array(Image.open(self.trimaps[i]))))
        image = (torch.tensor(image).permute(2, 0, 1).float() - .45) / .22
        return self.change(image, torch.tensor(mask)[None])
    def change(self, image, mask): return image, mask
class OneListShuffled(TwoLists):
    def __init__(self, folder):
        super().__init__(folder)
        random.shuffle(self.images)
class TrimapBy255(TwoLists):
    def mask(self, trimap): return (trimap // 255).astype(np.float32)
class BorderOnly(TwoLists):
    def mask(self, trimap): return (trimap == 3).astype(np.float32)
class MaskNormalised(TwoLists):
    def change(self, image, mask): return image, v2.functional.normalize(mask, [.5], [.5])
class Bicubic(TwoLists):
    def small(self, trimap):
        pet = Image.fromarray(np.where(trimap == 2, 0, 255).astype(np.uint8))
        return np.array(pet.resize((64, 64), Image.BICUBIC))
    def mask(self, pet): return (pet / 255).astype(np.float32)
class ClampedPixels(TwoLists):
    def change(self, image, mask): return image.clamp(0, 1), mask
class CachesAugmented(TwoLists):
    def __init__(self, folder):
        super().__init__(folder)
        self.cache = {}
    def __getitem__(self, i):
        if i not in self.cache: self.cache[i] = super().__getitem__(i)
        return self.cache[i]
    def change(self, image, mask):
        return (image.flip(2), mask.flip(2)) if random.random() < .5 else (image, mask)
class TenthsShifted(TwoLists): # the mask is rolled by some pixels, from a wrong padding
    def change(self, image, mask): return image, mask.roll((8, 8), (1, 2))
class FlipsImageOnly(TwoLists):
    def change(self, image, mask): return (image.flip(2) if random.random() < .5 else image), mask

class RandomCrops(TwoLists):
    def change(self, image, mask):
        both = torchvision.tv_tensors.Image(image), torchvision.tv_tensors.Mask(mask)
        return tuple(torch.as_tensor(t) for t in v2.RandomResizedCrop(64, (.6, 1.))(*both))
class AsDict(MyPets):
    def __init__(self, folder): super().__init__(folder, 'test')
    def __getitem__(self, i):
        name = self.names[i]
        image = torchvision.io.read_image(str(self.folder/'images'/f'{name}.jpg'))
        trimap = torchvision.io.read_image(str(self.folder/'annotations'/'trimaps'/f'{name}.png'))
        resize = v2.functional.resize
        mask = resize(trimap, [96, 80], v2.InterpolationMode.NEAREST_EXACT)[0]
        image = resize(image, [96, 80], antialias=True)
        return {'image': image, 'mask': (mask == 1).long(), 'id': i}
class CachesFiles(CachesAugmented): # what is kept is not augmented yet
    def __getitem__(self, i):
        if i not in self.cache: self.cache[i] = TwoLists.__getitem__(self, i)
        image, mask = self.cache[i]
        if torch.rand(()) < .5: image, mask = image.flip(2), mask.flip(2)
        return image, mask
    def change(self, image, mask): return image, mask


# --- training steps ---

def updates_by_hand(model, images, masks, loss_fn, optimizer):
    model.train()
    loss = loss_fn(model(images), masks)
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters(): p -= 1e-3 * p.grad
    return loss.item()
def divides_before_backward(model, images, masks, loss_fn, optimizer):
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(images), masks)
    (loss / len(images)).backward()
    optimizer.step()
    return loss.item()
def freezes_norms(model, images, masks, loss_fn, optimizer):
    model.train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d): m.eval()
    optimizer.zero_grad()
    loss = loss_fn(model(images), masks)
    loss.backward()
    optimizer.step()
    return loss.item()
def no_grad_forward(model, images, masks, loss_fn, optimizer):
    model.train()
    optimizer.zero_grad()
    with torch.no_grad(): logits = model(images)
    loss = loss_fn(logits, masks)
    loss.backward()
    optimizer.step()
    return loss.item()
def tidies_weights(model, images, masks, loss_fn, optimizer): # clips weights in place of gradients
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(images), masks)
    loss.backward()
    for p in model.parameters(): p.data.clamp_(-.1, .1)
    optimizer.step()
    return loss.item()
def mixes_flipped(model, images, masks, loss_fn, optimizer): # flips the picture, not the mask
    model.train()
    optimizer.zero_grad()
    if torch.rand(()) < .5: images = images.flip(3)
    loss = loss_fn(model(images), masks)
    loss.backward()
    optimizer.step()
    return loss.item()

def with_closure(model, images, masks, loss_fn, optimizer):
    model.train()
    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model(images), masks)
        loss.backward()
        return loss
    return float(optimizer.step(closure).detach())
def with_average(model, images, masks, loss_fn, optimizer): # of the weights, kept beside the model
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(images), masks)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for p in model.parameters():
            p.average = (p.detach().clone() if not hasattr(p, 'average')
                         else .99 * p.average + .01 * p)
    return loss.detach()
def with_guard(model, images, masks, loss_fn, optimizer):
    model.train()
    images, masks = images.to('cpu', non_blocking=True), masks.to('cpu', non_blocking=True)
    for p in model.parameters(): p.grad = None
    logits = model(images)
    loss = loss_fn(logits, masks)
    if not torch.isfinite(loss): return float('nan')
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), .01)
    optimizer.step()
    return loss.item()


# --- evaluations ---

@torch.no_grad()
def over_batches(model, loader): # summed over pictures, divided by the batches
    model.eval()
    total = 0.
    for images, masks in loader:
        for z, m in zip(model(images), masks):
            total += my_dice((z[None] > 0).float(), m[None]).item()
    return total / len(loader)
@torch.no_grad()
def whole_batch_each_time(model, loader): # milesial/Pytorch-UNet, issue 91
    model.eval()
    total, n = 0., 0
    for images, masks in loader:
        pred = (model(images) > 0).float()
        for m in masks:
            total += (2 * (pred * m).sum() / (pred.sum() + m.sum() + 1e-6)).item()
            n += 1
    return total / n
@torch.no_grad()
def median(model, loader):
    model.eval()
    return torch.cat([my_dice((model(x) > 0).float(), m) for x, m in loader]).median().item()
@torch.no_grad()
def trains_after_first(model, loader):
    model.eval()
    scores = []
    for x, m in loader:
        scores.append(my_dice((model(x) > 0).float(), m))
        model.train()
    return torch.cat(scores).mean().item()
@torch.no_grad()
def first_batch(model, loader):
    model.eval()
    for x, m in loader:
        score = my_dice((model(x) > 0).float(), m).mean().item()
        break
    return score
def gradients_off(model, loader):
    torch.set_grad_enabled(False)
    model.eval()
    return torch.cat([my_dice((model(x) > 0).float(), m) for x, m in loader]).mean().item()
@torch.no_grad()
def adaptive(model, loader): # a threshold for each picture, from its own answer
    model.eval()
    scores = []
    for x, m in loader:
        p = model(x).sigmoid()
        scores.append(my_dice((p > p.mean((1, 2, 3), keepdim=True)).float(), m))
    return torch.cat(scores).mean().item()
@torch.no_grad()
def at_half_size(model, loader):
    model.eval()
    scores = [my_dice((F.avg_pool2d(model(x), 2) > 0).float(), F.max_pool2d(m, 2))
              for x, m in loader]
    return torch.cat(scores).mean().item()
@torch.no_grad()
def best_checkpoint(model, loader): # the best batch of the epoch
    model.eval()
    return max(my_dice((model(x) > 0).float(), m).mean().item() for x, m in loader)

def restores(model, loader):
    was = model.training
    model.eval()
    with torch.inference_mode():
        logits, masks = zip(*((model(x.to(next(model.parameters()).device)), m) for x, m in loader))
    model.train(was)
    return my_dice((torch.cat(logits).sigmoid() >= .5).float(), torch.cat(masks)).mean()
def picture_by_picture(model, loader):
    scores = []
    model.train(False)
    for images, masks in loader:
        with torch.no_grad(): probs = torch.sigmoid(model(images)).cpu().numpy()
        for p, m in zip(probs > .5, masks.numpy() > .5):
            whole = p.sum() + m.sum()
            scores.append(1. if whole == 0 else 2 * np.logical_and(p, m).sum() / whole)
    return {'mean_dice': float(np.mean(scores)), 'n': len(scores)}
@torch.no_grad()
def flip_averaged(model, loader): # test-time augmentation
    model.eval()
    scores = []
    for x, m in loader:
        p = (model(x).sigmoid() + model(x.flip(3)).sigmoid().flip(3)) / 2
        scores.append(my_dice((p > .5).float(), m))
    return torch.cat(scores).mean().item()


FAULTS = [ # checker, what is checked, flags, words (a regular expression) that the right cause has
    (check_double_conv, OneNormForBoth, {}, 'used twice|several places'),
    (check_double_conv, ReluThrownAway, {}, 'ReLU after the first'),
    (check_double_conv, depthwise_second, {}, 'groups'),
    (check_double_conv, dilated_both, {}, 'dilation'),
    (check_double_conv, momentum_as_eps, {}, r'\beps'),
    (check_double_conv, pooled_inside, {}, 'pool'),
    (check_up_conv, TransposedUnused, {}, 'does not use'),
    (check_up_conv, DoubledAtTheEnd, {},
     'before it is doubled|doubled (only )?after|at the small size'),
    (check_up_conv, CropsTheSkip, {}, 'skip sets the size'),
    (check_up_conv, AveragesTheSkip, {}, 'skip is added|mean of both|averaged'),
    (check_res_block, AddsItself, {}, 'shortcut is missing|added to itself'),
    (check_res_block, PreActivation, {}, 'before the convolution|pre-activation'),
    (check_res_block, NormShared, {}, 'several places|used twice'),
    (check_res_block, HalfOfEach, {}, 'half|divided by 2|mean'),
    (check_unet, OrderForgotten, {}, 'wrong order'),
    (check_unet, BottomNotPooled, {}, 'pooling or a stride is missing'),
    (check_unet, DeepestTwice, {}, 'something else was joined|skip connection is missing'),
    (check_unet, NormAtTheEnd, {}, 'BatchNorm'),
    (check_unet, SigmoidInEval, {}, 'sigmoid'),
    (check_unet, KeepsSkips, {}, 'another call|detached'),
    (check_unet, ZeroWeights, {}, r'\b0\b|zero'),
    (check_unet, EncoderNoGrad, {}, 'no_grad'),
    (check_unet, SkipsBeforeBlocks, {},
     'the pooled map is joined'),
    (check_resnet34_unet, PoolForgotten, {}, 'pooling'),
    (check_resnet34_unet, StrideForPool, {}, 'pooling|first stage has a stride of 2'),
    (check_resnet34_unet, StemNormUnused, {}, 'BatchNorm|does not use'),
    (check_dice_loss, divided_by_batch, {}, 'divided by the number of pictures'),
    (check_dice_loss, smooth_inside, {}, 'smooth|factor 2'),
    (check_dice_loss, grad_by_hand, {}, r'graph'),
    (check_dice_loss, Tversky, {}, 'Tversky|weighted'),
    (check_dice_loss, softmax_over_batch, {}, 'softmax'),
    (check_dice_loss, focal_power, {}, 'power'),
    (check_metric, misses_left_out, {}, 'left out|skipped'),
    (check_metric, rounded_to_tenths, {}, 'round'),
    (check_metric, RunningMean, {}, 'running|weighs more|weigh'),
    (check_metric, weighted_f1, {}, 'background'),
    (check_metric, over_truth, {}, 'recall'),
    (check_metric, first_row, {}, 'part|first row'),
    (check_dataset, OneListShuffled, {}, 'different files|off by one'),
    (check_dataset, TrimapBy255, {}, 'no pixel is pet'),
    (check_dataset, BorderOnly, {}, 'border'),
    (check_dataset, MaskNormalised, {}, 'normalis'),
    (check_dataset, Bicubic, {}, 'resized'),
    (check_dataset, ClampedPixels, {}, 'clamp|cut off|clip'),
    (check_dataset, CachesAugmented, dict(augmented=True), 'cache|kept|first epoch'),
    (check_dataset, TenthsShifted, {}, 'shifted'),
    (check_dataset, FlipsImageOnly, dict(augmented=True), 'flips'),
    (check_training_step, updates_by_hand, {}, 'optimizer'),
    (check_training_step, divides_before_backward, {}, 'divided'),
    (check_training_step, freezes_norms, {}, 'BatchNorm.* eval|evaluation mode'),
    (check_training_step, no_grad_forward, {}, 'no_grad'),
    (check_training_step, tidies_weights, {}, 'weights'),
    (check_training_step, mixes_flipped, {}, 'masks were not|flip'),
    (check_evaluate, over_batches, {}, 'number of batches|by the batches|summed'),
    (check_evaluate, whole_batch_each_time, {}, 'each prediction|each mask|whole batch'),
    (check_evaluate, median, {}, 'median'),
    (check_evaluate, trains_after_first, {}, r'model\.eval\(\)|training mode'),
    (check_evaluate, first_batch, {}, 'first batch|inside the loop'),
    (check_evaluate, gradients_off, {}, 'set_grad_enabled|stay off|left off'),
    (check_evaluate, adaptive, {}, 'threshold'),
    (check_evaluate, at_half_size, {}, 'size'),
    (check_evaluate, best_checkpoint, {}, 'best|maximum|largest'),
]
VARIANTS = [ # checker, what is checked, flags, words of the note; none for what is simply right
    (check_double_conv, reflecting, {}, ''),
    (check_double_conv, with_silu, {}, 'SiLU'),
    (check_double_conv, with_instance_norm, {}, 'InstanceNorm'),
    (check_double_conv, WithDropout, {}, 'dropout'),
    (check_up_conv, ResizeConv, {}, ''),
    (check_up_conv, Shuffled, {}, ''),
    (check_res_block, Biased, {}, ''),
    (check_res_block, Wide, {}, 'dropout'),
    (check_res_block, PooledShortcut, {}, 'pool'),
    (check_unet, Strided, {}, ''),
    (check_unet, ResUNet, {}, ''),
    (check_unet, PadsOdd, {}, ''),
    (check_resnet34_unet, TorchvisionEncoder, {}, ''),
    (check_dice_loss, IgnoresBorder, {}, ''),
    (check_dice_loss, clamped_dice, {}, ''),
    (check_dice_loss, einsum_dice, {}, ''),
    (check_metric, Counts, {}, ''),
    (check_metric, by_iou, {}, ''),
    (check_metric, by_confusion, {}, ''),
    (check_dataset, RandomCrops, dict(augmented=True), ''),
    (check_dataset, AsDict, dict(augmented=False), ''),
    (check_dataset, CachesFiles, dict(augmented=True), ''),
    (check_training_step, with_closure, {}, ''),
    (check_training_step, with_average, {}, ''),
    (check_training_step, with_guard, {}, ''),
    (check_evaluate, restores, {}, ''),
    (check_evaluate, picture_by_picture, {}, ''),
    (check_evaluate, flip_averaged, {}, 'test-time'),
]


# --- written when all of the above had been mended, and looked at once ---

class SecondReluBeforeNorm(MyDoubleConv):
    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(F.relu(self.conv2(x)))
class NormOfInput(nn.Module): # the norm is as wide as the input, and stands in front
    def __init__(self, i, o):
        super().__init__()
        self.seq = nn.Sequential(
            nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, padding=1), nn.ReLU(),
            nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())
    def forward(self, x): return self.seq(x)
class UpTwice(MyUpConv):
    def forward(self, x, skip):
        x = F.interpolate(F.interpolate(self.up(x), scale_factor=2), skip.shape[2:])
        return self.conv(torch.cat([skip, skip], 1)) + 0 * x.mean()
class ShortcutBeforeNorm(MyResBlock): # the addition stands before the second norm
    def forward(self, x):
        y = self.conv2(F.relu(self.bn1(self.conv1(x))))
        return F.relu(self.bn2(y + self.shortcut(x)))
class DropsTheTop(LevelUNet): # the largest skip is replaced by zeros
    def order(self, skips): return [*skips[:0:-1], torch.zeros_like(skips[0])]
class NormalisesInside(LevelUNet): # meant: each picture by its own minimum and maximum
    def forward(self, x): return super().forward(((x - x.amin()) / (x.amax() - x.amin())))
class ArgmaxHead(LevelUNet):
    def forward(self, x): return (super().forward(x) > 0).float()
def log_dice(logits, masks):
    p = logits.sigmoid()
    return -torch.log((2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1))
def dice_of_both(logits, masks): # background and pet as two classes
    p = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    m = torch.cat([1 - masks, masks], 1)
    return 1 - ((2 * (p * m).sum((0, 2, 3)) + 1) / (p.sum((0, 2, 3)) + m.sum((0, 2, 3)) + 1)).mean()
def hausdorffish(pred, mask): return 1 - (pred - mask).abs().mean()
def first_of_batch(pred, mask): return my_dice(pred[0:1], mask[0:1]).item()
class MaskShrunk(TwoLists): # the mask is resized to another size than the picture, and padded
    def change(self, image, mask):
        return image, F.pad(F.interpolate(mask[None], size=(48, 48))[0], (0, 16, 0, 16))
class ChannelMean(TwoLists): # normalised with the statistics in the order of BGR, on grey pictures
    def change(self, image, mask): return image.mean(0, keepdim=True).repeat(3, 1, 1), mask
class HalfTheItems(TwoLists): # i // 2
    def __getitem__(self, i): return super().__getitem__(i // 2)
def zeroes_late(model, images, masks, loss_fn, optimizer): # zero_grad stands between two passes
    model.train()
    loss = loss_fn(model(images), masks)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()
def trains_on_soft(model, images, masks, loss_fn, optimizer): # smooths labels: nobody asked for it
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(images), masks * .8 + .1)
    loss.backward()
    optimizer.step()
    return loss.item()
@torch.no_grad()
def without_last(model, loader):
    model.eval()
    scores = [my_dice((model(x) > 0).float(), m).mean().item()
              for x, m in loader if len(x) == loader.batch_size]
    return sum(scores) / len(scores)
@torch.no_grad()
def soft_score(model, loader):
    model.eval()
    scores = [2 * (model(x).sigmoid() * m).sum((1, 2, 3)) / (model(x).sigmoid() + m).sum((1, 2, 3))
              for x, m in loader]
    return torch.cat(scores).mean().item()

class Lambda(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)])
        self.norms = nn.ModuleDict({'0': nn.BatchNorm2d(o), '1': nn.BatchNorm2d(o)})
    def forward(self, x):
        for k, conv in enumerate(self.convs): x = self.norms[str(k)](conv(x)).clamp(min=0)
        return x
def with_elu(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ELU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ELU())
class GroupNormUNet(LevelUNet):
    def __init__(self):
        super().__init__()
        for block in [*self.down, *self.up]:
            block.bn1, block.bn2 = nn.GroupNorm(3, 12), nn.GroupNorm(3, 12)
def squared(logits, masks):
    p = torch.special.expit(logits)
    losses = [1 - (2 * a.mul(b).sum() + 1) / (a.square().sum() + b.square().sum() + 1)
              for a, b in zip(p, masks)]
    return torch.stack(losses).mean()
def steps_in_singles(model, images, masks, loss_fn, optimizer):
    model.train()
    optimizer.zero_grad()
    total = 0.
    for i in range(0, len(images), 2):
        loss = loss_fn(model(images[i:i + 2]), masks[i:i + 2]) * 2 / len(images)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
def in_numpy(model, loader):
    model.eval()
    hit = np.zeros(3)
    with torch.no_grad():
        for x, m in loader:
            p, t = (model(x).numpy() > 0), m.numpy().astype(bool)
            hit += [(p & t).sum(), p.sum(), t.sum()]
    return 2 * hit[0] / (hit[1] + hit[2])

LAST_FAULTS = [
    (check_double_conv, SecondReluBeforeNorm, {}, 'second BatchNorm comes after its ReLU'),
    (check_double_conv, NormOfInput, {}, 'before the convolution'),
    (check_up_conv, UpTwice, {}, 'not used|map is not|coarse map'),
    (check_res_block, ShortcutBeforeNorm, {}, 'addition|added before'),
    (check_unet, DropsTheTop, {}, 'skip connection is missing'),
    (check_unet, NormalisesInside, {}, 'batch|statistics'),
    (check_unet, ArgmaxHead, {}, 'threshold'),
    (check_dice_loss, log_dice, {}, 'log'),
    (check_dice_loss, dice_of_both, {}, 'background'),
    (check_metric, hausdorffish, {}, 'accuracy'),
    (check_metric, first_of_batch, {}, 'first picture'),
    (check_dataset, MaskShrunk, {}, 'shifted|cropped|resized'),
    (check_dataset, ChannelMean, {}, 'grey'),
    (check_dataset, HalfTheItems, {}, 'index'),
    (check_training_step, zeroes_late, {}, 'throws the gradient away'),
    (check_training_step, trains_on_soft, {}, 'smooth|mask'),
    (check_evaluate, without_last, {}, 'last, smaller batch|left out'),
    (check_evaluate, soft_score, {}, 'soft Dice|thresholded|twice'),
]
LAST_VARIANTS = [
    (check_double_conv, Lambda, {}, ''),
    (check_double_conv, with_elu, {}, 'ELU'),
    (check_unet, GroupNormUNet, {}, ''),
    (check_dice_loss, squared, {}, ''),
    (check_training_step, steps_in_singles, {}, 'parts'),
    (check_evaluate, in_numpy, {}, ''),
]


def apart(cases, kept):
    "The cases that the probes were mended with, or every third, which was kept apart until the end"
    return [case for i, case in enumerate(cases) if (i % 3 == 2) == kept]


# found, and their cause is not named yet
UNNAMED = {trains_on_soft}
REFUSED = set() # right, and called wrong


def causes(report): return ' '.join(f.cause for f in report.findings if f.ok is False)
def notes(report): return ' '.join(f.note for f in report.findings)


def figures(faults, variants):
    "Print how many faults are found and named, how many variants are called wrong, and their notes"
    reports = [(checker(thing, **flags), words) for checker, thing, flags, words in faults]
    found = sum(not report.passed for report, _ in reports)
    named = sum(not report.passed and bool(re.search(words, causes(report)))
                for report, words in reports)
    print(f'{found} of {len(faults)} faults found, {named} with the right cause')
    reports = [(checker(thing, **flags), words) for checker, thing, flags, words in variants]
    false = sum(not report.passed for report, _ in reports)
    due = [(notes(report), words) for report, words in reports if words]
    told = sum(words in text for text, words in due)
    print(f'{false} of {len(variants)} right variants called wrong; {told} of {len(due)} notes')


if __name__ == '__main__':
    for kept, name in (False, 'first two thirds'), (True, 'kept apart'):
        print(name, end=': ', flush=True)
        figures(apart(FAULTS, kept), apart(VARIANTS, kept))
    print('written last', end=': ', flush=True)
    figures(LAST_FAULTS, LAST_VARIANTS)
