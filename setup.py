"""Builds the package from `settings.ini`, the only place that names its version and requirements."""
import shlex
from configparser import ConfigParser
from pathlib import Path
from shutil import copytree, ignore_patterns
from setuptools import setup, find_packages
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

pythons = ['3.10', '3.11', '3.12', '3.13', '3.14']
extras = {name: shlex.split(cfg[f'{name}_requirements']) for name in ('course', 'export', 'dev')}
extras['dev'] += extras['course'] + extras['export']
statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']


def unshipped(folder, names):
    "What lies beside the chapters: the site's files, and what was downloaded or trained in a checkout; `workshop/runs` is a wing of the book"
    patterns = '.*', '*.yml', 'theme', 'llms.txt', 'data', 'runs', '*.onnx', '*.wasm', '*.mjs', '*.jpg', 'model.json'
    return ignore_patterns(*patterns)(folder, names) - ({'runs'} if Path(folder).name == 'workshop' else set())


class BuildWithChapters(build_py):
    "The chapters travel inside the package, for `petseg_lab`; an editable install has them in `nbs/`"
    def run(self):
        super().run()
        if not self.editable_mode:
            copytree('nbs', Path(self.build_lib, cfg['lib_path'], 'nbs'), ignore=unshipped, dirs_exist_ok=True)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=Path('README.md').read_text(encoding='utf-8').replace('](nbs/', f"]({cfg['git_url']}/raw/{cfg['branch']}/nbs/"), # pictures, on a package index
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    classifiers=[f"Development Status :: {statuses[int(cfg['status']) - 1]}",
                 f"Intended Audience :: {cfg['audience']}",
                 f"Natural Language :: {cfg['language']}",
                 *(f'Programming Language :: Python :: {v}' for v in pythons)],
    packages=find_packages(include=[cfg['lib_path'], f"{cfg['lib_path']}.*"]),
    include_package_data=True,
    cmdclass={'build_py': BuildWithChapters},
    python_requires=f">={cfg['min_python']}",
    install_requires=shlex.split(cfg['requirements']),
    extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    zip_safe=False,
)
