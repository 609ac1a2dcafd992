"""README.md says what the notebook `index` says, and its commands are the ones that CI runs."""
import json, re, shutil, sys
import pytest
from conftest import ROOT, cells, run, source

INDEX = list(map(source, cells(ROOT/'nbs/index.ipynb')))
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
        assert ' '.join(words(block)) in readme, f'run python scripts/readme.py, or add:\n\n{block}'


@pytest.fixture
def project(tmp_path):
    "What scripts/readme.py reads, in a folder"
    for name in ('scripts/readme.py', 'scripts/report.py', 'nbs/index.ipynb'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT/name, tmp_path/name)
    shutil.copytree(ROOT/'nbs/course', tmp_path/'nbs/course')
    return tmp_path


def test_quarto_leaves_the_readme_that_the_script_writes(project):
    (project/'_docs').mkdir()
    (project/'_docs'/'README.md').write_text("Quarto's, which nbdev would put in the place of ours")
    run(sys.executable, 'scripts/readme.py', cwd=project,
        env=dict(QUARTO_PROJECT_OUTPUT_DIR=project/'_docs'))
    assert not (project/'_docs'/'README.md').exists()
    assert (project/'README.md').read_text(encoding='utf-8') == README
    assert (project/'nbs/index.ipynb').read_bytes() == (ROOT/'nbs/index.ipynb').read_bytes()


def test_reading_times_are_counted(project):
    "12,000 words more are an hour more, in the row of the chapter and in the sum"
    row = r'01_masks\.ipynb\) \|.+\| (\d+) min \|'
    hours = r'that is ([\d.]+) hours'
    chapter = project/'nbs/course/01_masks.ipynb'
    nb = json.loads(chapter.read_text(encoding='utf-8'))
    nb['cells'][0]['source'].append(' word' * 12_000)
    chapter.write_text(json.dumps(nb), encoding='utf-8')
    run(sys.executable, 'scripts/readme.py', cwd=project)
    text = (project/'README.md').read_text(encoding='utf-8')
    assert int(re.search(row, text)[1]) == int(re.search(row, README)[1]) + 60
    before, after = (float(re.search(hours, t)[1]) for t in (README, text))
    assert after == pytest.approx(before + 1)


def test_ci_runs_the_commands_of_the_readme():
    commands = re.findall(r'^``` ?bash\n(.*?)\n```', README, re.M | re.S)[:2]
    assert 'nbdev_test' in commands[1]
    for name in ('.ci/run', '.github/workflows/test.yml'):
        text = (ROOT/name).read_text(encoding='utf-8')
        for command in commands: assert command in text, f'{name} does not run: {command}'
