"""Two processes score as one does, to the last bit, also where one of them saw no picture."""
import sys
import torch
from conftest import finish, start
from petseg_nb.metrics import SegmentationMeter

OTHER = """
import sys, torch, torch.distributed as dist
from petseg_nb.metrics import SegmentationMeter
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
logits, masks = torch.load(f'{folder}/all.pt')
meter = SegmentationMeter()
meter.update(*((logits[50:], masks[50:]) if rank else (logits[:50], masks[:50])))
print(meter.compute())
meter.reset()
if rank == 0: meter.update(logits, masks)
print(meter.compute())
"""

def test_two_processes_score_as_one(tmp_path):
    torch.manual_seed(0)
    logits, masks = torch.randn(90, 1, 12, 12), (torch.rand(90, 1, 12, 12) > .6).byte()
    torch.save((logits, masks), tmp_path/'all.pt')
    meter = SegmentationMeter()
    meter.update(logits, masks)
    both = [start(sys.executable, '-c', OTHER, tmp_path, rank) for rank in (0, 1)]
    for process in both: assert finish(process, timeout=120)[0] == f'{meter.compute()}\n' * 2
