"""Put beside nbs/demo/index.html what the repository does not contain:
python scripts/demo.py [CHECKPOINT [FOLDER]]

The network as ONNX (by default the package's own), ONNX Runtime for browsers from npm, and three
photographs."""
import re, shutil, subprocess, sys, tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from petseg_nb.core.disk import write_json
from petseg_nb.masks import SAMPLES
from petseg_nb.runs.export import (
    LIMITS, differences, export_checkpoint, read_onnx, sample_pixels)

RUNTIME = 'onnxruntime-web@1.30.0'
FILES = ('ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm')


def fetch_runtime(folder):
    "The three files of the runtime that the page loads"
    with TemporaryDirectory() as scratch:
        pack = subprocess.run(['npm', 'pack', '--silent', RUNTIME], cwd=scratch, check=True,
                              capture_output=True, text=True)
        with tarfile.open(Path(scratch)/pack.stdout.strip()) as tar:
            for name in FILES:
                (folder/name).write_bytes(tar.extractfile(f'package/dist/{name}').read())


def halve(path):
    "Store the weights of an ONNX file in 16 bits: half to download; the page computes in 32"
    import numpy as np, onnx
    from onnx import numpy_helper
    model = onnx.load(path)
    for stored in list(model.graph.initializer):
        weights = numpy_helper.to_array(stored)
        if weights.dtype != np.float32 or weights.size < 64: continue
        short = numpy_helper.from_array(weights.astype(np.float16), f'{stored.name}_16')
        widen = onnx.helper.make_node('Cast', [short.name], [stored.name], to=stored.data_type)
        model.graph.initializer.remove(stored)
        model.graph.initializer.append(short)
        model.graph.node.insert(0, widen)
    onnx.save(model, path)


def main(checkpoint='pretrained', folder=Path(__file__).parent.parent/'nbs'/'demo'):
    folder = Path(folder)
    fetch_runtime(folder)
    page = (folder/'index.html').read_text(encoding='utf-8')
    for name in re.findall(r'data-sample="(.+?)"', page):
        shutil.copy(SAMPLES/'images'/name, folder/name)
    export_checkpoint(checkpoint, folder/'model.onnx')
    whole, note = read_onnx(folder/'model.onnx')
    halve(folder/'model.onnx')
    halved, _ = read_onnx(folder/'model.onnx')
    images = sample_pixels(note['config']['size'])
    if differences(whole(images), halved(images))['largest'] > LIMITS['safetensors']: # 16 bits too
        sys.exit('in 16 bits the network is another: leave out halve')
    write_json(dict(size=note['config']['size']), folder/'model.json')


if __name__ == '__main__': main(*sys.argv[1:])
