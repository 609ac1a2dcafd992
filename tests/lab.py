"""A JupyterLab server for tests, started by `petseg_lab`, and the tree to start it on."""
import json, os, shutil, socket, subprocess, sys, time, urllib.request
import psutil
from conftest import ROOT, run


def copy_tree(to):
    "Copy to `to` what git tracks, or would track"
    names, _ = run('git', 'ls-files', '-coz', '--exclude-standard', cwd=ROOT)
    for name in names.split('\0'):
        if (ROOT/name).is_file():
            (to/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/name, to/name)
    return to


class Lab:
    """`petseg_lab` of the package in `path`, in an empty home folder

    It has no real pictures, as for a student who has downloaded nothing.
    """
    def __init__(self, path, home, *flags, **env):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        home.mkdir(exist_ok=True)
        self.url, self.log = f'http://127.0.0.1:{port}', home/'lab.log'
        inherited = {name: value for name, value in os.environ.items()
                     if name != 'PETSEG_DATA' and not name.startswith('JUPYTER')}
        code = 'from petseg_nb.cli.lab import petseg_lab; petseg_lab()'
        self.process = psutil.Popen(
            [sys.executable, '-c', code, '--', '--no-browser', f'--port={port}',
             '--ServerApp.port_retries=0', '--IdentityProvider.token=test',
             '--LanguageServerManager.autodetect=False', *flags],
            cwd=home, env=inherited | {'HOME': str(home), 'PYTHONPATH': str(path)} | env,
            stdin=os.openpty()[1], stdout=self.log.open('w'), stderr=subprocess.STDOUT,
            start_new_session=True)
        self.wait_until_up()

    def wait_until_up(self):
        for _ in range(300):
            try: return self.ask('')
            except OSError: time.sleep(.2)
            if not self.process.is_running(): break
        self.stop()
        raise RuntimeError(f'JupyterLab did not start:\n{self.log.read_text()}')

    def ask(self, path, method='GET', **data):
        "What the server's REST interface answers"
        body = json.dumps(data).encode() if data else None
        address, token = f'{self.url}/api/{path}', {'Authorization': 'token test'}
        request = urllib.request.Request(address, body, token, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or 'null')

    def end_kernels(self):
        for kernel in self.ask('kernels'): self.ask(f"kernels/{kernel['id']}", 'DELETE')

    def stop(self, signal=15):
        "End the server; True if it took its kernels with it and nothing had to be killed"
        family = [self.process, *self.process.children(recursive=True)]
        self.process.send_signal(signal)
        alive = psutil.wait_procs(family, timeout=15)[1]
        for process in alive: process.kill()
        return not alive
