"What a figure was measured on. The benchmarks write it beside their results."
import json, os, platform, re, sys
from pathlib import Path


def describe():
    "Processor, its kinds of numbers, what it is held to, cores, memory and versions"
    import torch
    info = Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else ''
    name, flags = (re.search(rf'{key}\s*: (.*)', info) for key in ('model name', 'flags'))
    known = 'avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'
    kinds = [kind for kind in known if flags and kind in flags[1].split()]
    limits = 'ATEN_CPU_CAPABILITY', 'ONEDNN_MAX_CPU_ISA'
    held = {name: os.environ[name] for name in limits if name in os.environ}
    memory = None
    if hasattr(os, 'sysconf'):
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return dict(processor=name[1] if name else platform.machine(), kinds=kinds, held_to=held,
                cores=os.cpu_count(), gib=memory and round(memory, 1),
                threads=torch.get_num_threads(),
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                system=platform.system(), python=platform.python_version(), torch=torch.__version__)


def save(file, **results):
    "Write results and machine as JSON, if there is a file to write"
    if not file: return
    results = dict(command=sys.argv, machine=describe(), **results)
    Path(file).write_text(json.dumps(results, indent=1) + '\n')


class Results:
    "Rows in a file, a line of JSON each; a run that is there is not made again"
    def __init__(self, path):
        self.path = Path(path)
        self.path.touch()

    def known(self, **key):
        "The rows with these values"
        rows = map(json.loads, self.path.read_text().splitlines())
        return [row for row in rows if key.items() <= row.items()]

    def add(self, run, **key):
        "Add the row that `run(**key)` gives, unless there is one for `key`"
        if self.known(**key): return
        row = key | run(**key)
        with self.path.open('a') as file: file.write(json.dumps(row) + '\n')
