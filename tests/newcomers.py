"""Thirty faults and thirty right variants, with the words of the right cause, or of the note.

They were written after the probes of `strangers.py` had been mended; the last ten of each were run
once, at the end. `DESIGNS` and `REVIEWED` are a selection of what a reviewer tried before."""
import copy
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2
from my_petseg import (MyDoubleConv, MyResBlock, MyUNet, MyUpConv, my_dice, my_dice_loss,
                       my_evaluate, my_step)
from petseg_nb.check import (check_dataset, check_dice_loss, check_double_conv, check_evaluate,
                             check_metric, check_res_block, check_training_step, check_unet,
                             check_up_conv)
from strangers import TwoLists


# --- blocks ---

def changed(base, **attributes):
    "A class as `base`, with other attributes"
    return type(base.__name__, (base,), attributes)

def made(base, change):
    "A class as `base`, whose objects are changed once they are made"
    def __init__(self, *args):
        base.__init__(self, *args)
        change(self, *args)
    return changed(base, __init__=__init__)

def relu_twice(self, x): return self.bn2(self.conv2(F.relu(F.relu(self.bn1(self.conv1(x)))))).relu()
def one_relu(self, x): return self.bn2(self.conv2(self.bn1(self.conv1(x)))).relu()
def norm_swapped(self, x): return self.bn1(self.conv2(self.bn2(self.conv1(x)).relu())).relu()
def kernel_five(self, i, o): self.conv2 = nn.Conv2d(o, o, 5, padding=2)
def last_channel_lost(self, x):
    return MyDoubleConv.forward(self, torch.cat([x[:, :-1], 0 * x[:, :1]], 1))
def last_unpadded(self, i, o): self.conv2 = nn.Conv2d(o, o, 3)
def no_track(self, i, o): self.bn1 = nn.BatchNorm2d(o, track_running_stats=False)
def subtracts(self, x):
    return (self.shortcut(x) - self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()
def no_stride(self, i, o, stride=1):
    self.conv1 = nn.Conv2d(i, o, 3, 1, 1, bias=False)
def skip_first_relu(self, x, skip):
    return self.conv(torch.cat([skip.relu(), F.interpolate(self.up(x), skip.shape[2:])], 1))
def map_twice(self, x, skip):
    x = F.interpolate(self.up(x), skip.shape[2:])
    return self.conv(torch.cat([x, x], 1))
class Written(nn.Module): # weights as parameters, BatchNorm as a function
    def __init__(self, i, o):
        super().__init__()
        for k, c in enumerate((i, o)):
            setattr(self, f'w{k}', nn.Parameter(torch.randn(o, c, 3, 3) / (3 * c ** .5)))
            setattr(self, f'g{k}', nn.Parameter(torch.ones(o)))
            setattr(self, f'b{k}', nn.Parameter(torch.zeros(o)))
            self.register_buffer(f'm{k}', torch.zeros(o))
            self.register_buffer(f'v{k}', torch.ones(o))
    def forward(self, x):
        for k in '01':
            w, g, b, m, v = (getattr(self, c + k) for c in 'wgbmv')
            x = F.batch_norm(F.conv2d(x, w, padding=1), m, v, g, b, self.training).clamp_min(0)
        return x
class LazyUp(nn.Module):
    def __init__(self, i, skip, o):
        super().__init__()
        self.up = nn.LazyConvTranspose2d(skip, 2, 2)
        self.conv = nn.Sequential(*(layer for _ in range(2) for layer in (
            nn.LazyConv2d(o, 3, padding=1), nn.LazyBatchNorm2d(), nn.ReLU())))
    def forward(self, x, skip):
        return self.conv(torch.cat([skip, F.interpolate(self.up(x), skip.shape[2:])], 1))
def copied(i, o): return copy.deepcopy(MyDoubleConv(i, o))
def named(i, o): # as torchvision's Conv2dNormActivation makes it
    import torchvision
    return nn.Sequential(*(torchvision.ops.Conv2dNormActivation(c, o, 3) for c in (i, o)))
def circular(self, i, o):
    self.conv1.padding_mode = self.conv2.padding_mode = 'zeros'
    self.conv1 = nn.Conv2d(i, o, 3, padding=1, padding_mode='circular')
class TorchRes(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU(),
                                  nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o))
        self.side = nn.Sequential()
        if (i, stride) != (o, 1):
            self.side.append(nn.Conv2d(i, o, 1, stride)).append(nn.BatchNorm2d(o))
    def forward(self, x): return torch.relu(torch.add(self.side(x), self.body(x)))


# --- U-Nets ---

class Ways(nn.Module):
    "A U-Net whose ways to halve, to double and to join can be chosen"
    def __init__(self, halve=lambda x: F.max_pool2d(x, 2), w=8, block=MyDoubleConv, depth=4,
                 double=lambda i, o: nn.ConvTranspose2d(i, o, 2, 2)):
        super().__init__()
        c = [w << i for i in range(depth + 1)]
        self.halve, self.stem = halve, nn.Identity()
        self.down = nn.ModuleList(map(block, [3, *c], c))
        self.doubles = nn.ModuleList(double(2 * n, n) for n in c[-2::-1])
        self.up = nn.ModuleList(block(2 * n, n) for n in c[-2::-1])
        self.head = nn.Conv2d(w, 1, 1)
    def join(self, skip, x): return torch.cat([skip, x], 1)
    def forward(self, x):
        skips, x = [], self.stem(x)
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = self.halve(x)
        x = self.down[-1](x)
        for double, block in zip(self.doubles, self.up):
            x = block(self.join(skips.pop(), double(x)))
        return self.head(x)

def ways(**how):
    def ways_unet(): return Ways(**how)
    return ways_unet
def with_stem(net): net.stem = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
def stemmed():
    net = Ways()
    with_stem(net)
    return net
def no_norm_at(net, *_): net.down[2].bn1 = nn.Identity()
def relu_head(net, *_): net.head = nn.Sequential(net.head, nn.ReLU())
class SubtractsMean(MyUNet):
    def forward(self, x): return super().forward(x - x.mean(0, keepdim=True))
class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.psi = nn.Conv2d(c, 1, 1)
    def forward(self, x): return x * self.psi(x).sigmoid()
class Gated(Ways):
    def __init__(self):
        super().__init__()
        self.gates = nn.ModuleList(map(Gate, (64, 32, 16, 8)))
    def join(self, skip, x):
        gate = next(g for g in self.gates if g.psi.in_channels == skip.shape[1])
        return torch.cat([gate(skip), x], 1)
class Squeeze(MyDoubleConv): # squeeze and excitation behind each block
    def __init__(self, i, o):
        super().__init__(i, o)
        self.fc = nn.Sequential(nn.Linear(o, o // 2), nn.ReLU(), nn.Linear(o // 2, o), nn.Sigmoid())
    def forward(self, x):
        x = super().forward(x)
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]
class Recursive(nn.Module): # as in pix2pix: each level holds the next one
    def __init__(self, depth=4, i=3, w=8):
        super().__init__()
        self.block, self.out = MyDoubleConv(i, w), None
        if depth:
            self.inner = Recursive(depth - 1, w, 2 * w)
            self.up, self.after = nn.ConvTranspose2d(2 * w, w, 2, 2), MyDoubleConv(2 * w, w)
    def forward(self, x):
        x = self.block(x)
        if not hasattr(self, 'inner'): return x
        return self.after(torch.cat((x, self.up(self.inner(F.avg_pool2d(x, 2)))), 1))
def recursive(): return nn.Sequential(Recursive(), nn.Conv2d(8, 1, 1))
class TopSkipOfInput(Ways): # the map is doubled and then the wrong map is joined
    def join(self, skip, x): return torch.cat([x * 0 + x.mean(), x], 1)
class Rolled(Ways):
    def join(self, skip, x): return torch.cat([skip.roll(2, 3), x], 1)
class Squeezed(Ways):
    def forward(self, x): return super().forward(x).squeeze(1)
class NoGradSkip(Ways):
    def join(self, skip, x): return torch.cat([skip.detach(), x], 1)


# --- losses and metrics ---

def probability_of_one(z, m): return my_dice_loss(torch.softmax(z, 1), m)
def times_hundred(z, m): return 100 * my_dice_loss(z, m)
def by_numpy(z, m): return torch.tensor(float(my_dice_loss(z, m)), requires_grad=True)
def log_space(z, m): # the overlap as exp of a log-sigmoid
    p = F.logsigmoid(z).exp()
    return 1 - ((2 * (p * m).sum((1, 2, 3)) + 1e-6) / ((p + m).sum((1, 2, 3)) + 1e-6)).mean()
class LossModule(nn.Module):
    def __init__(self, smooth=1., reduction='mean'):
        super().__init__()
        self.smooth, self.reduction = smooth, reduction
    def forward(self, z, m):
        p, m = z.sigmoid().flatten(1), m.flatten(1)
        loss = 1 - (2 * (p * m).sum(1) + self.smooth) / (p.sum(1) + m.sum(1) + self.smooth)
        return loss.mean() if self.reduction == 'mean' else loss
def half_precision(z, m): return my_dice_loss(z.double(), m.double()).float()
def hit_rate(p, m): return ((p * m).sum((1, 2, 3)) / p.sum((1, 2, 3)).clamp(min=1)).mean()
def or_for_and(p, m): return 2 * torch.maximum(p, m).sum() / (p + m).sum()
def background(p, m): return my_dice(1 - p, 1 - m).mean()
def set_dice(p, m):
    a, b = {*p.flatten().nonzero().flatten().tolist()}, {*m.flatten().nonzero().flatten().tolist()}
    return 2 * len(a & b) / (len(a) + len(b)) if a | b else 1.
def per_picture_list(p, m): return torch.stack([my_dice(a[None], b[None])[0] for a, b in zip(p, m)])


# --- datasets ---

class TurnsMask(TwoLists):
    def change(self, image, mask): return image, mask.rot90(1, (1, 2))
class OwnStandard(TwoLists): # each picture by its own mean and spread
    def change(self, image, mask):
        return (image - image.mean((1, 2), keepdim=True)) / image.std((1, 2), keepdim=True), mask
class FlipsBoth(TwoLists):
    def change(self, image, mask):
        return (image.flip(2), mask.flip(2)) if torch.rand(()) < .5 else (image, mask)
class RotatesBoth(TwoLists):
    def change(self, image, mask):
        angle = float(torch.rand(()) * 40 - 20)
        return v2.functional.rotate(image, angle), v2.functional.rotate(mask, angle)
class Unsigned(TwoLists):
    def change(self, image, mask): return ((image * .22 + .45) * 255).byte(), mask[0].bool()
class ShrinksMask(TwoLists):
    def change(self, image, mask):
        small = F.interpolate(mask[None], size=40)[0]
        return image, F.pad(small, (12, 12, 12, 12))


# --- steps and evaluations ---

def step_first(model, x, m, loss_fn, opt):
    model.train()
    opt.step()
    loss = loss_fn(model(x), m)
    opt.zero_grad()
    loss.backward()
    return loss.item()
def frozen_head(model, x, m, loss_fn, opt):
    model.train()
    for p in model.head.parameters(): p.requires_grad_(False)
    opt.zero_grad()
    loss = loss_fn(model(x), m)
    loss.backward()
    opt.step()
    return loss.item()
def swaps(model, x, m, loss_fn, opt):
    model.train()
    opt.zero_grad()
    loss = loss_fn(m, model(x))
    loss.backward()
    opt.step()
    return loss.item()
def in_a_helper(model, x, m, loss_fn, opt):
    def backward_and_step(loss):
        opt.zero_grad(set_to_none=False)
        loss.backward()
        opt.step()
        return loss.detach().cpu().numpy().item()
    return backward_and_step(loss_fn(model.train()(x), m))
def channels_last(model, x, m, loss_fn, opt):
    return my_step(model, x.contiguous(memory_format=torch.channels_last), m, loss_fn, opt)
def on_a_copy(model, loader): return my_evaluate(copy.deepcopy(model), loader)
@torch.no_grad()
def mean_of_pictures(model, loader):
    model.eval()
    total = n = 0
    for x, m in loader:
        total += my_dice((model(x) > 0).float(), m).sum()
        n += len(x)
    return total / n
@torch.no_grad()
def sum_over_batches(model, loader):
    model.eval()
    return sum(my_dice((model(x) > 0).float(), m).sum().item() for x, m in loader) / len(loader)
@torch.no_grad()
def inverted(model, loader):
    model.eval()
    return torch.cat([my_dice((model(x) < 0).float(), m) for x, m in loader]).mean().item()
@torch.no_grad()
def high_threshold(model, loader):
    model.eval()
    return torch.cat([my_dice((model(x).sigmoid() > .6).float(), m) for x, m in loader]).mean()


FAULTS = [
    (check_double_conv, changed(MyDoubleConv, forward=one_relu), {}, 'ReLU after the first'),
    (check_double_conv, made(MyDoubleConv, kernel_five), {}, '5×5|kernel'),
    (check_double_conv, changed(MyDoubleConv, forward=last_channel_lost), {}, 'channel'),
    (check_double_conv, made(MyDoubleConv, no_track), {}, 'statistics of the batch|statistics'),
    (check_res_block, changed(MyResBlock, forward=subtracts), {}, 'subtracted'),
    (check_up_conv, changed(MyUpConv, forward=skip_first_relu), {}, 'ReLU works on the skip'),
    (check_up_conv, changed(MyUpConv, forward=map_twice), {}, 'skip is not joined'),
    (check_unet, made(Ways, no_norm_at), {}, 'BatchNorm is missing'),
    (check_unet, made(Ways, relu_head), {}, 'ReLU at the end'),
    (check_unet, Rolled, {}, 'rolled'),
    (check_unet, NoGradSkip, {}, 'detached'),
    (check_unet, TopSkipOfInput, {}, 'skip connection is missing'),
    (check_dice_loss, times_hundred, {}, 'percent'),
    (check_dice_loss, probability_of_one, {}, 'softmax'),
    (check_metric, hit_rate, {}, 'precision'),
    (check_metric, background, {}, 'background'),
    (check_dataset, TurnsMask, {}, 'always changed'),
    (check_training_step, step_first, {}, 'before backward'),
    (check_training_step, swaps, {}, 'swapped'),
    (check_evaluate, inverted, {}, 'inverted'),
    # run once, at the end
    (check_double_conv, made(MyDoubleConv, last_unpadded), {}, 'no padding'),
    (check_res_block, made(MyResBlock, no_stride), {}, 'stride'),
    (check_unet, SubtractsMean, {}, 'batch'),
    (check_unet, Squeezed, {}, 'squeezed'),
    (check_dice_loss, by_numpy, {}, 'graph'),
    (check_metric, or_for_and, {}, 'union|either|maximum'),
    (check_dataset, ShrinksMask, {}, 'cropped or resized'),
    (check_training_step, frozen_head, {}, 'they are frozen'),
    (check_evaluate, high_threshold, {}, r'threshold is 0\.6'),
    (check_evaluate, sum_over_batches, {}, 'number of batches'),
]
VARIANTS = [
    (check_double_conv, changed(MyDoubleConv, forward=relu_twice), {}, ''),
    (check_double_conv, Written, {}, ''),
    (check_double_conv, copied, {}, ''),
    (check_double_conv, changed(MyDoubleConv, forward=norm_swapped), {}, ''),
    (check_up_conv, LazyUp, {}, ''),
    (check_res_block, TorchRes, {}, ''),
    (check_unet, ways(halve=lambda x: F.interpolate(x, scale_factor=.5, mode='bilinear')), {}, ''),
    (check_unet, ways(double=lambda i, o: nn.Sequential(
        nn.Conv2d(i, o, 1), nn.BatchNorm2d(o), nn.ReLU(), nn.Upsample(scale_factor=2))), {}, ''),
    (check_unet, ways(double=lambda i, o: nn.ConvTranspose2d(i, o, 4, 2, 1)), {}, ''),
    (check_unet, Gated, {}, ''),
    (check_unet, recursive, {}, ''),
    (check_dice_loss, log_space, {}, ''),
    (check_dice_loss, LossModule, {}, ''),
    (check_metric, set_dice, {}, ''),
    (check_metric, per_picture_list, {}, ''),
    (check_dataset, OwnStandard, {}, ''),
    (check_dataset, RotatesBoth, dict(augmented=True), ''),
    (check_training_step, in_a_helper, {}, ''),
    (check_training_step, channels_last, {}, ''),
    (check_evaluate, on_a_copy, {}, ''),
    # run once, at the end
    (check_double_conv, named, {}, ''),
    (check_double_conv, made(MyDoubleConv, circular), {}, ''),
    (check_unet, stemmed, {}, ''),
    (check_unet, ways(block=Squeeze), {}, ''),
    (check_unet, ways(halve=lambda x: F.lp_pool2d(x, 2, 2)), {}, ''),
    (check_dice_loss, half_precision, {}, ''),
    (check_dice_loss, LossModule(1e-3), {}, ''),
    (check_dataset, FlipsBoth, dict(augmented=True), ''),
    (check_dataset, Unsigned, dict(augmented=False), ''),
    (check_evaluate, mean_of_pictures, {}, ''),
]


# --- a selection of what a reviewer tried ---

def by_slices(x):
    top, bottom = x[..., ::2, :], x[..., 1::2, :]
    tall = torch.maximum(top, bottom)
    return torch.maximum(tall[..., ::2], tall[..., 1::2])
def by_reshape(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).amax((3, 5))
def by_unfold(x):
    b, c, h, w = x.shape
    return F.unfold(x, 2, stride=2).view(b, c, 4, h // 2, w // 2).max(2)[0]
def lazy(i, o):
    return nn.Sequential(*(layer for _ in range(2) for layer in (
        nn.LazyConv2d(o, 3, padding=1), nn.LazyBatchNorm2d(), nn.ReLU())))
class TwoBottoms(Ways):
    def __init__(self):
        super().__init__()
        self.down[-1] = nn.Sequential(self.down[-1], MyDoubleConv(128, 128))
class Paper(Ways): # no padding, so the skips are cropped in their middle
    def __init__(self):
        super().__init__(block=lambda i, o: nn.Sequential(
            nn.Conv2d(i, o, 3), nn.ReLU(), nn.Conv2d(o, o, 3), nn.ReLU()))
    def join(self, skip, x): return torch.cat([v2.functional.center_crop(skip, x.shape[2:]), x], 1)
def conv_first(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(),
                         nn.Upsample(scale_factor=2))

DESIGNS = [
    (check_unet, ways(halve=lambda x: F.adaptive_max_pool2d(x, x.shape[2] // 2)
                      if x.shape[2] == x.shape[3] else F.max_pool2d(x, 2)), {}, ''),
    (check_unet, ways(halve=lambda x: F.interpolate(x, scale_factor=.5, mode='area')), {}, ''),
    (check_unet, ways(halve=by_slices), {}, ''), (check_unet, ways(halve=by_reshape), {}, ''),
    (check_unet, ways(halve=by_unfold), {}, ''), (check_unet, ways(block=lazy), {}, ''),
    (check_unet, ways(double=conv_first), {}, ''), (check_unet, TwoBottoms, {}, ''),
    (check_unet, Paper, {}, 'unpadded U-Net of the paper'),
    (check_double_conv, lazy, {}, ''),
]

def pads_swapped(self, x, skip):
    x = self.up(x)
    dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
    return self.conv(torch.cat([skip, F.pad(x, [dy // 2, dy - dy // 2, dx // 2, dx - dx // 2])], 1))
def by_channels(self, i, o, stride=1): self.shortcut = nn.Identity() if i == o else self.shortcut
def red_only(self, x): return MyUNet.forward(self, x[:, :1].repeat(1, 3, 1, 1))
class Views(Ways):
    def __init__(self):
        super().__init__(double=lambda i, o: nn.Conv2d(i, 4 * o, 1))
    def join(self, skip, x): return torch.cat([skip, x.reshape(skip.shape)], 1)
def one_without_pet(p, m):
    scores = [1. if b.sum() == 0 else my_dice(a[None], b[None]).item() for a, b in zip(p, m)]
    return sum(scores) / len(scores)
def constant_if_empty(z, m): return my_dice_loss(z, m) if m.any() else torch.tensor(0.)
class NormalisedTwice(TwoLists):
    def change(self, image, mask): return (image - .45) / .22, mask
class CropsPicture(TwoLists):
    def change(self, image, mask):
        return F.interpolate(image[None, :, 8:56, 8:56], size=64)[0], mask
class FilledCorners(TwoLists):
    def change(self, image, mask):
        angle = float(torch.rand(()) * 60 - 30)
        return v2.functional.rotate(image, angle), v2.functional.rotate(mask, angle, fill=1)
def decays(model, x, m, loss_fn, opt):
    for group in opt.param_groups: group['lr'] *= .9
    return my_step(model, x, m, loss_fn, opt)
@torch.no_grad()
def low_threshold(model, loader):
    model.eval()
    return torch.cat([my_dice((model(x).sigmoid() > .3).float(), m) for x, m in loader]).mean()
def five_and_one(self, i, o): # sees 5×5 pixels, too
    self.conv1, self.conv2 = nn.Conv2d(i, o, 5, padding=2), nn.Conv2d(o, o, 1)
def half_batch(model, x, m, loss_fn, opt): return my_step(model, x[:2], m[:2], loss_fn, opt)

REVIEWED = [
    (check_double_conv, made(MyDoubleConv, five_and_one), {}, 'two kernels of 3×3'),
    (check_training_step, half_batch, {}, 'part of the batch is left out'),
    (check_up_conv, changed(MyUpConv, forward=pads_swapped), {}, 'F.pad takes'),
    (check_res_block, made(MyResBlock, by_channels), {}, 'by the channels alone'),
    (check_unet, changed(MyUNet, forward=red_only), {}, 'does not use all channels'),
    (check_unet, Views, {}, 'not upsampling'),
    (check_metric, one_without_pet, {}, 'whatever is predicted'),
    (check_dice_loss, constant_if_empty, {}, 'a constant is returned'),
    (check_dataset, NormalisedTwice, {}, 'normalised twice'),
    (check_dataset, CropsPicture, {}, 'both need the same crop'),
    (check_dataset, FilledCorners, {}, 'fill the mask with background'),
    (check_training_step, decays, {}, 'changes the learning rate'),
    (check_evaluate, low_threshold, {}, r'threshold is 0\.3'),
]


# --- what failed of twenty more ---

def batch_always(self, x):
    for conv, bn in (self.conv1, self.bn1), (self.conv2, self.bn2):
        x = F.batch_norm(conv(x), None, None, bn.weight, bn.bias, training=True).relu()
    return x
def stretched(self, x): return F.interpolate(MyDoubleConv.forward(self, x), x.shape[2:])
def unpadded(self, *_): self.conv1.padding = self.conv2.padding = (0, 0)
class LateSkips(Ways): # taken after the pooling, and resized until they fit
    def forward(self, x):
        skips = []
        for block in self.down[:-1]:
            x = self.halve(block(x))
            skips.append(x)
        x = self.down[-1](x)
        for double, block in zip(self.doubles, self.up):
            x = double(x)
            x = block(self.join(F.interpolate(skips.pop(), x.shape[2:]), x))
        return self.head(x)
class FirstSkips(Ways): # those of the first call are joined for ever
    def __init__(self):
        super().__init__()
        self.halve, self.skips = self.keep, []
    def keep(self, x):
        self.skips.append(x)
        return F.max_pool2d(x, 2)
    def join(self, skip, x):
        first = next(s for s in self.skips if s.shape[1] == skip.shape[1])
        return torch.cat([first, x], 1)
def above_zero(p, m): return my_dice((p > 0).float(), m).mean()
def squeezed_logits(model, x, m, loss_fn, opt):
    return my_step(model, x, m, lambda z, m: loss_fn(z.squeeze(1), m), opt)
class RunsOver(TwoLists): # brighter, in uint8
    def change(self, image, mask):
        pixels = ((image * .22 + .45) * 255).round().byte()
        return pixels + torch.randint(60, (1,), dtype=torch.uint8), mask

class Unfolded(nn.Module): # convolutions as matrix products
    def __init__(self, i, o):
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(o, 9 * c) / (3 * c ** .5) for c in (i, o))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _ in range(2))
    def forward(self, x):
        for weight, norm in zip(self.weights, self.norms):
            x = norm((weight @ F.unfold(x, 3, padding=1)).view(len(x), -1, *x.shape[2:])).relu()
        return x
class OneThenTwo(Ways): # as VGG-11: one convolution at the two largest sizes
    def __init__(self):
        super().__init__()
        for i, c in enumerate((3, 8)):
            self.down[i] = nn.Sequential(nn.Conv2d(c, 8 << i, 3, padding=1),
                                         nn.BatchNorm2d(8 << i), nn.ReLU())
def blurred(x): # pooled as in antialiased networks: padded, and read in steps of 2
    kernel = torch.tensor([[1., 2, 1], [2, 4, 2], [1, 2, 1]]).repeat(x.shape[1], 1, 1, 1) / 16
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode='reflect'), kernel, stride=2, groups=x.shape[1])
def detached_weights(model, loader): # no graph is made, though gradients are on
    model.eval()
    weights = {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}
    answers = [torch.func.functional_call(model, weights, x) for x, _ in loader]
    return my_dice((torch.cat(answers) > 0).float(), torch.cat([m for _, m in loader])).mean()

# --- what failed of twenty-four more ---

def channels_as_height(self, x, skip):
    x = self.up(x)
    if x.shape != skip.shape: x = F.interpolate(x, size=skip.shape[1:3])
    return self.conv(torch.cat([x, skip], 1))
def relu_first(self, x): return MyResBlock.forward(self, x.relu())
def above_zero_of_sigmoid(model, loader):
    model.eval()
    with torch.no_grad(): scores = [my_dice(1. * (model(x).sigmoid() > 0), m) for x, m in loader]
    return torch.cat(scores).mean().item()
def as_a_dot_product(z, m): # of vectors, which must be of one type
    p, m = z.sigmoid().flatten(), m.flatten().float()
    return 1 - (2 * p.dot(m) + 1) / (p.sum() + m.sum() + 1)
class UpsideDown(TwoLists):
    def change(self, image, mask): return image.flip(1), mask.flip(1)

LATER = [
    (check_up_conv, changed(MyUpConv, forward=channels_as_height), {}, r'shape\[1:3\]'),
    (check_res_block, changed(MyResBlock, forward=relu_first), {}, 'ReLU changes the input'),
    (check_evaluate, above_zero_of_sigmoid, {}, 'every pixel counts as pet'),
    (check_double_conv, changed(MyDoubleConv, forward=batch_always), {},
     'this BatchNorm uses the statistics of the batch'),
    (check_double_conv, made(changed(MyDoubleConv, forward=stretched), unpadded), {}, 'no padding'),
    (check_unet, LateSkips, {}, 'the pooled map is joined'),
    (check_unet, FirstSkips, {}, 'maps of another call'),
    (check_metric, above_zero, dict(inputs='probabilities'), 'every pixel counts as pet'),
    (check_training_step, squeezed_logits, {}, 'squeeze both'),
    (check_dataset, RunsOver, {}, 'overflowed'),
]
LATER_VARIANTS = [
    (check_double_conv, Unfolded, {}, 'not judged'), (check_unet, OneThenTwo, {}, ''),
    (check_unet, ways(halve=blurred), {}, ''), (check_evaluate, detached_weights, {}, ''),
    (check_dice_loss, as_a_dot_product, {}, ''), (check_dataset, UpsideDown, {}, 'upside down'),
]
