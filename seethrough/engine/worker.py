"""One process of a stage that runs on several: `python -m seethrough.engine.worker STAGE.json`."""

import json
import os
import signal
import sys
from pathlib import Path

from seethrough.engine.launch import die_with_parent


def main(spec_path: str) -> int:
    """Run this rank's part. Returns the exit code; bad input prints its message on rank 0."""
    die_with_parent(signal.SIGKILL)
    from seethrough.engine.execute import execute_stage
    from seethrough.engine.plan import make_plan
    from seethrough.errors import InputError
    from seethrough.recipe.load import reload_recorded

    spec = json.loads(Path(spec_path).read_text())
    runs = Path(spec["runs"])
    resolved = reload_recorded(spec["experiment"], spec["name"], spec["file"])
    plan = make_plan(resolved, runs)
    outputs = {source: path for stage in plan.stages for source, path in stage.outputs().items()}
    stage = next(stage for stage in plan.stages if stage.name == spec["stage"])
    try:
        execute_stage(resolved, stage, outputs)
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(error, file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
