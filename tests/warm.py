"""A process that has the libraries imported and forks command lines from there, to save time.

It reads requests from standard input and answers with a line of JSON. A forked process is a
process like any other: with its own ranks, output files, and death.
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from seethrough.engine.launch import die_with_parent

IMPORTS = (
    "seethrough.run",
    "seethrough.engine.execute",
    "seethrough.engine.runner",
    "seethrough.models.checkpoints",
    "tests.engine.toy",
    # What torch's and others' optimizers import when they are made.
    "torch._dynamo",
    "deepspeed",
    "bitsandbytes.optim",
    "transformers.optimization",
)


def serve() -> None:
    """Answer requests until the input ends."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # the forked need not look through it again
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        if "start" in request:
            answer = {"pid": _start(request["start"])}
        else:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        print(json.dumps(answer), flush=True)


def _start(task: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    die_with_parent(parent)
    for number, path in ((1, task["out"]), (2, task["err"])):
        handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # Whoever started the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in task["unset"]:
        os.environ.pop(name, None)
    os.environ.update(task["env"])
    code = 1
    try:
        code = importlib.import_module(task["program"]).main(task["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking down all that was imported would cost more than the run


if __name__ == "__main__":
    serve()
