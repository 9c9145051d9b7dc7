"""A stand-in for PBS: `qsub`, `qstat` and `qdel` that run jobs as processes of this machine, in a folder of their own.

`install` writes the three commands. In the folder, `slots` holds the number of jobs that run at once, `minute` the
seconds of a minute of walltime, `refuse` a message with which qsub refuses jobs, and `fail` how often qstat fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER = "stand-in"
UNKNOWN_JOB = 153


def install(folder: Path) -> Path:
    """Write the commands, and return their folder, for PATH."""
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name, text in {"slots": "2", "minute": "60"}.items():
        (folder / name).write_text(text)
    for name in ("qsub", "qstat", "qdel"):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{__file__}" "{folder}" {name} "$@"\n')
        command.chmod(0o755)
    return folder / "bin"


def put(job: Path, name: str, text: str) -> None:
    """Write an attribute of a job, whole at any moment."""
    part = job / f"{name}.{os.getpid()}"
    part.write_text(text)
    part.replace(job / name)


def get(job: Path, name: str) -> str:
    return (job / name).read_text() if (job / name).exists() else ""


def qsub(folder: Path, options: list[str]) -> int:
    with (folder / "qsub.calls").open("a") as calls:
        calls.write(" ".join(options) + "\n")
    if refusal := get(folder, "refuse"):
        sys.stderr.write(f"qsub: {refusal}\n")
        return 1
    array = options[options.index("-J") + 1] if "-J" in options else ""
    (walltime,) = (option.removeprefix("walltime=") for option in options if option.startswith("walltime="))
    number, script = 1 + len(list((folder / "jobs").glob("*_0"))), sys.stdin.read()
    for index in range(int(array.partition("-")[2]) + 1 if array else 1):
        job = folder / "jobs" / f"{number}_{index}"
        job.mkdir()
        put(job, "id", f"{number}[{index}].{SERVER}" if array else f"{number}.{SERVER}")
        put(job, "script", script)
        put(job, "state", "Q")
        run = [sys.executable, "-I", __file__, str(folder), "run", str(job), str(index), walltime]
        nowhere = subprocess.DEVNULL
        subprocess.Popen(run, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    sys.stdout.write(f"{number}[].{SERVER}\n" if array else f"{number}.{SERVER}\n")
    return 0


def run(folder: Path, options: list[str]) -> int:
    """Run one job in a process of its own: wait for a slot, start the script, and kill it when its time is over."""
    job, (hours, minutes, seconds) = Path(options[0]), map(int, options[2].split(":"))
    slot = None
    while slot is None:
        if (job / "deleted").exists():
            return end(job, None)
        slot = free_slot(folder) if is_next(folder, job) else None
        time.sleep(0.05)
    put(job, "state", "R")
    environment = {**os.environ, "PBS_ARRAY_INDEX": options[1]}
    process = subprocess.Popen(["/bin/sh", job / "script"], start_new_session=True, env=environment)
    began, walltime, status = time.monotonic(), 60 * hours + minutes + seconds / 60, None
    while process.poll() is None:
        is_over = time.monotonic() - began > walltime * float(get(folder, "minute"))
        if is_over or (job / "deleted").exists():
            status = 271 if (job / "deleted").exists() else -29
            kill(process)
        time.sleep(0.05)
    slot.rmdir()
    put(job, "state", "E")
    time.sleep(0.2)
    code = process.returncode
    return end(job, status or (256 - code if code < 0 else code))


def is_next(folder: Path, job: Path) -> bool:
    """Return whether no older job waits."""
    waiting = [path.parent for path in (folder / "jobs").glob("*/state") if path.read_text() == "Q"]
    return job == min(waiting, key=lambda each: [int(part) for part in each.name.split("_")])


def free_slot(folder: Path) -> Path | None:
    """Take a free slot; return its folder, which exists while a job has it."""
    for number in range(int(get(folder, "slots"))):
        with contextlib.suppress(FileExistsError):
            (folder / f"slot{number}").mkdir()
            return folder / f"slot{number}"
    return None


def kill(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to each process of a job's session, and SIGKILL after five seconds."""
    listing = subprocess.run(["ps", "-e", "-o", "pid=,sess="], capture_output=True, text=True, check=True).stdout
    members = [int(pid) for pid, session in map(str.split, listing.splitlines()) if int(session) == process.pid]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def end(job: Path, status: int | None) -> int:
    if status is not None:
        put(job, "Exit_status", str(status))
    put(job, "state", "F")
    return 0


def known(folder: Path, ids: list[str], command: str) -> tuple[list[Path], int]:
    """Return the named jobs, and the exit code of a command for them."""
    jobs = {get(job, "id"): job for job in (folder / "jobs").iterdir()}
    for each in ids:
        if each not in jobs:
            sys.stderr.write(f"{command}: Unknown Job Id {each}\n")
    return [jobs[each] for each in ids if each in jobs], UNKNOWN_JOB if set(ids) - set(jobs) else 0


def qstat(folder: Path, options: list[str]) -> int:
    if failures := int(get(folder, "fail") or "0"):
        put(folder, "fail", str(failures - 1))
        sys.stderr.write("qstat: cannot connect to server stand-in (errno=15010)\n")
        return 1
    jobs, code = known(folder, [option for option in options if not option.startswith("-")], "qstat")
    for job in jobs:
        state, status = get(job, "state"), get(job, "Exit_status")
        lines = [f"Job Id: {get(job, 'id')}", "    Job_Name = open_prune", f"    job_state = {state}"]
        lines += ["    comment = Not Running: no slot is free"] if state == "Q" else []
        lines += [f"    Exit_status = {status}"] if status and state == "F" else []
        sys.stdout.write("\n".join([*lines, "    Variable_List = A=b,", "\tC=d", "", ""]))
    return code


def qdel(folder: Path, ids: list[str]) -> int:
    jobs, code = known(folder, ids, "qdel")
    for job in jobs:
        put(job, "deleted", "")
    return code


if __name__ == "__main__":
    place, name, *arguments = sys.argv[1:]
    commands = {"qsub": qsub, "qstat": qstat, "qdel": qdel, "run": run}
    sys.exit(commands[name](Path(place), arguments))
