"""What `ws-load` and `ws-browser` have in common: two versions of the plugin, a server, and packages from PyPI."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
# In the build folder, so that nothing of this is among the sources.
FOLDER = TOP / "target" / "ws"
VERSIONS = ["one", "two"]
# One that is not good.
FAILING = ["three"]


def with_package(requirement):
    """Runs the calling script again in an environment of its own that has the package, unless it is in one."""
    folder = FOLDER / "venv" / re.sub(r"\W", "-", requirement)
    python = folder / "bin" / "python"
    if pathlib.Path(sys.prefix) == folder:
        return
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement], check=True)
        (folder / "done").touch()
    os.execv(python, [python, *sys.argv])


def cargo(*arguments, folder=TOP):
    """The files that cargo says it has made."""
    done = subprocess.run(
        ["cargo", "build", "--quiet", "--message-format=json-render-diagnostics", *arguments],
        cwd=folder, check=True, stdout=subprocess.PIPE, text=True,
    )
    made = [json.loads(line) for line in done.stdout.splitlines()]
    return [pathlib.Path(name) for it in made if it["reason"] == "compiler-artifact" for name in it["filenames"]]


def build_server(*options):
    """The path of the server."""
    return next(it for it in cargo("--package=hotswap-demo", "--example=ws_server", *options) if it.name == "ws_server")


# For each plugin: its file, the method that is changed, the package and the library that are built, and what the method
# does first. A plugin that waits takes 0 to 50 ms for a number; it begins its answer before that and ends it afterwards.
# A plugin that fails takes up to 3 ms, and panics at each twentieth message.
PLUGINS = {
    "at once": (
        "hotswap-plugin/src/code.rs",
        "fn process(&self, text: &str) -> Result<String, String> {",
        ["--package=hotswap-plugin"],
        "libplugin.so",
        """
            if true {{
                return Ok(format!("{version} {{text}} {version}"));
            }}""",
    ),
    "failing": (
        "hotswap-plugin/src/code.rs",
        "fn process(&self, text: &str) -> Result<String, String> {",
        ["--package=hotswap-plugin"],
        "libplugin.so",
        """
            static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
            let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(call % 4));
            assert!(call % 20 != 0, "{version} has no answer");
            if true {{
                return Ok(format!("{version} {{text}} {version}"));
            }}""",
    ),
    "waiting": (
        "hotswap-demo/examples/ws_plugin.rs",
        "async fn answer(&self, text: String) -> Result<String, String> {",
        ["--package=hotswap-demo", "--example=ws_plugin"],
        "libws_plugin.so",
        """
            if let Ok(number) = text.parse::<u64>() {{
                let begun = format!("{version} {{text}}");
                sleep(Duration::from_millis(number * 7 % 51)).await;
                return Ok(format!("{{begun}} {version}"));
            }}""",
    ),
}


def build_versions(*options, plugin="at once", versions=VERSIONS):
    """The paths of plugins that answer with their name on either side of the message.

    They are built in a copy of the workspace, with a changed method.
    """
    file, signature, what, library, change = PLUGINS[plugin]
    copy = FOLDER / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ["Cargo.toml", "Cargo.lock"]:
        shutil.copy2(TOP / name, copy)
    for package in TOP.glob("hotswap-*"):
        shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("target"))
    code = copy / file
    before, found, after = code.read_text().partition(signature)
    if not found:
        sys.exit(f"ws_common: `{signature}` was not found in {file}")
    made = []
    for version in versions:
        code.write_text(before + signature + change.format(version=version) + after)
        built = cargo(*what, f"--target-dir={FOLDER / 'build'}", *options, folder=copy)
        path = FOLDER / f"{version}.so"
        shutil.copyfile(next(it for it in built if it.name == library), path)
        made.append(path)
    return made


def put(source, target):
    """Puts the file in the place of the other, as a whole."""
    beside = target.with_suffix(".next")
    shutil.copyfile(source, beside)
    os.replace(beside, target)


class Server:
    """A running server, on a free port, that has to end by itself when it is told to."""

    def __init__(self, binary, plugin, *options):
        # The folder may be anybody's: this is about something else.
        command = [binary, "--any-owner", "--listen=127.0.0.1:0", "--connections-per-address=4096", *options, plugin]
        self.log = open(FOLDER / "server.log", "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        first = self.process.stdout.readline()
        if not first.startswith("listening on http://"):
            sys.exit(f"the server has not started:\n{(FOLDER / 'server.log').read_text()}")
        self.page = first.split()[-1]
        self.websocket = self.page.replace("http://", "ws://") + "ws"

    def memory_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    def end(self):
        """Its exit code after Ctrl-C, and what it has said."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        return code, (FOLDER / "server.log").read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
