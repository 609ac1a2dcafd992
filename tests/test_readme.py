"""README.md says what the notebook `index` says, and its commands are the ones that CI runs."""
import json, os, re, shutil, subprocess, sys
from conftest import ROOT

INDEX = [''.join(c['source']) for c in json.loads((ROOT/'nbs/index.ipynb').read_text(encoding='utf-8'))['cells']]
README = (ROOT/'README.md').read_text(encoding='utf-8')


def words(text):
    "What is left of a text without markup, which nbconvert and Quarto write differently"
    text = re.sub(r'<!--.*?-->|</?\w+[^>]*>|\[!\w+\]|^#\|.*?$', ' ', text, flags=re.S | re.M)
    text = re.sub(r'\]\([^)]*\)(\{[^}]*\})?', ' ', text) # targets of links and pictures
    return re.findall(r'\w+', text.replace('’', "'"))


def test_readme_says_what_index_says():
    title, *rest = INDEX
    assert words(title.splitlines()[0])[0] in words(README)[:3]
    readme = ' '.join(words(README))
    for block in re.split(r'\n\s*\n', '\n\n'.join(rest)):
        assert ' '.join(words(block)) in readme, f'README.md lacks this paragraph of nbs/index.ipynb; run python scripts/readme.py\n\n{block}'
    missing = len(words(README)) - sum(len(words(cell)) for cell in INDEX)
    assert abs(missing) <= 20, f'README.md has {missing} words more than nbs/index.ipynb'


def test_links_of_readme_and_index_resolve():
    for folder, text in ((ROOT, README), (ROOT/'nbs', '\n'.join(INDEX))):
        for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
            target = ''.join(target).split('#')[0]
            if target and not target.startswith('http'): assert (folder/target).exists(), f'{target} is not in {folder.name}'


def test_quarto_leaves_the_readme_that_the_script_writes(tmp_path):
    for name in ('scripts/readme.py', 'nbs/index.ipynb'):
        (tmp_path/name).parent.mkdir()
        shutil.copy(ROOT/name, tmp_path/name)
    (tmp_path/'_docs').mkdir()
    (tmp_path/'_docs'/'README.md').write_text("Quarto's, which nbdev would put in the place of ours")
    run = subprocess.run([sys.executable, tmp_path/'scripts/readme.py'], capture_output=True, text=True,
                         env=os.environ | {'QUARTO_PROJECT_OUTPUT_DIR': str(tmp_path/'_docs')})
    assert run.returncode == 0, run.stderr
    assert not (tmp_path/'_docs'/'README.md').exists()
    assert (tmp_path/'README.md').read_text(encoding='utf-8') == README


def test_ci_runs_the_commands_of_the_readme():
    commands = re.findall(r'^``` ?bash\n(.*?)\n```', README, re.M | re.S)
    ci = (ROOT/'.ci/run').read_text(encoding='utf-8')
    for command in commands[:2]: assert command in ci, f'.ci/run does not run: {command}'
