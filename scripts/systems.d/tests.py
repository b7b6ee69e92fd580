#!/usr/bin/env python3
"""tests.py ROOT TARGET LIST ACCOUNT [NAME=VALUE]...: runs test programs in another system, and accounts for each test.

ROOT and TARGET are those of `enter`. LIST has what cargo says of the programs (`cargo test --no-run
--message-format=json`). ACCOUNT has one line for each test that does not simply pass there:

    PACKAGE PROGRAM TEST: fails|varies|skipped: why

`fails` is a test that must fail (or not end), `varies` one that may, and `skipped` one that is not run. Anything else that
fails is an error, and so is a test that is expected to fail and passes, and a line without a test. The variables
are for the programs. PACKAGES of the environment are the packages to test, SETUP is what a shell does before each program.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
TARGET = Path(sys.argv[2])
# For one program: the longest takes four minutes on a machine of its own.
LIMIT_SECONDS = int(os.environ.get("LIMIT_SECONDS", "1500"))


def read_account(path, packages):
    account = {}
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        test, outcome, reason = line.split(": ", 2)
        assert outcome in ("fails", "varies", "skipped") and reason, line
        assert len(test.split(" ")) == 3 and test not in account, line
        if test.split(" ")[0] in packages:
            account[test] = (outcome, reason)
    return account


def programs(path, packages):
    for line in path.read_text().splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["profile"]["test"]:
            manifest = Path(message["manifest_path"])
            package = next(it for it in manifest.read_text().splitlines() if it.startswith("name = ")).split('"')[1]
            if package in packages:
                yield package, message["target"]["name"], message["executable"], manifest.parent


def lists_its_tests(executable):
    """Whether it is made with libtest, whose programs have an option of this name."""
    in_target = Path(executable).relative_to(TOP / "target")
    return b"--logfile" in (TARGET / in_target).read_bytes()


def run(root, target, variables, package, program, executable, folder, skipped):
    """The result of each test that has one, and whether the program has ended by itself."""
    enter = [HERE / "enter", root, target]
    name = f"{package}-{program}"
    (target / "logs").mkdir(exist_ok=True)
    results = target / "logs" / f"{name}.results"
    results.unlink(missing_ok=True)
    environment = {"CARGO_MANIFEST_DIR": str(folder), "CARGO_PKG_NAME": package, **variables}
    # bash stays, as the first process of its namespace: that one ignores signals that it does not handle.
    shell = os.environ.get("SETUP", "") + '\ncd "$1"; shift; "$@"; exit $?'
    command = enter + ["env", *(f"{name}={value}" for name, value in environment.items())]
    command += ["bash", "-c", shell, "bash", folder]
    if not lists_its_tests(executable):
        # A `main` of its own, whose result is all that there is.
        with open(target / "logs" / f"{name}.log", "w") as log:
            process = subprocess.run(command + [executable], stdout=log, stderr=subprocess.STDOUT)
        return {"main": "failed" if process.returncode else "ok"}, {"main"}, True
    listed = subprocess.run(command + [executable, "--list"], capture_output=True, text=True, check=True)
    names = {line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")}
    chosen = sorted(names - {test.split(" ")[2] for test in skipped})
    seen_there = TOP / "target" / "logs" / results.name
    arguments = ["--exact", "--logfile", seen_there, *(["--skip", "*"] if not chosen else chosen)]
    with open(target / "logs" / f"{name}.log", "w") as log:
        process = subprocess.Popen(command + [executable, *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            ended = process.wait(LIMIT_SECONDS) in (0, 101)
        except subprocess.TimeoutExpired:
            # With `enter`, all processes of its namespace end.
            process.kill()
            process.wait()
            ended = False
    found = {}
    if results.exists():
        for line in results.read_text().splitlines():
            # Why a test is ignored stands between the two.
            outcome, _, test = line.rpartition(" ")
            found[test] = outcome.partition(":")[0]
    return {test: found.get(test, "no result") for test in chosen}, names, ended


def main():
    root, target, listed, account_path, *variables = sys.argv[1:]
    packages = os.environ["PACKAGES"].split()
    variables = dict(variable.split("=", 1) for variable in variables)
    account = read_account(Path(account_path), packages)
    wrong, there, passed, ignored, excepted = [], set(), 0, 0, []
    for package, program, executable, folder in programs(Path(listed), packages):
        prefix = f"{package} {program} "
        skipped = [test for test, (outcome, _) in account.items() if outcome == "skipped" and test.startswith(prefix)]
        results, names, ended = run(
            Path(root), Path(target), variables, package, program, executable, folder, skipped
        )
        there |= {prefix + name for name in names}
        excepted += skipped
        counts = {}
        for name, outcome in results.items():
            test = prefix + name
            counts[outcome] = counts.get(outcome, 0) + 1
            expected = account.get(test, ("passes", ""))[0]
            if outcome == "ignored":
                ignored += 1
            elif outcome == "ok" and expected in ("passes", "varies"):
                passed += 1
            elif outcome == "ok":
                wrong.append(f"{test}: passes, and is expected to fail")
            elif expected in ("fails", "varies"):
                excepted.append(test)
            else:
                wrong.append(f"{test}: {outcome}")
        if not ended and all(outcome != "no result" for outcome in results.values()):
            wrong.append(f"{package} {program}: has not ended as it should")
        if not results:
            continue
        print(f"{package} {program}: " + ", ".join(f"{number} {it}" for it, number in sorted(counts.items())), flush=True)
    wrong += [f"{test}: is in {account_path}, and there is no such test" for test in sorted(set(account) - there)]
    for test in sorted(excepted):
        print(f"  {test}: {': '.join(account[test])}")
    for line in wrong:
        print(f"  WRONG {line}")
    print(f"{passed} passed, {len(excepted)} excepted, {ignored} ignored, {len(wrong)} wrong")
    sys.exit(bool(wrong) or not passed)


main()
