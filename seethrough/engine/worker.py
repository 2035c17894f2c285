"""One process of a stage that runs on several: `python -m seethrough.engine.worker STAGE.json`."""

import json
import sys
from pathlib import Path

from seethrough.engine.launch import die_with_parent


def main(spec_path: str) -> None:
    """Run this rank's part; the main one leaves what the stage made for the launcher."""
    spec = json.loads(Path(spec_path).read_text())
    die_with_parent(spec["parent"])
    from seethrough.engine.execute import Work, run_stage
    from seethrough.engine.ranks import part
    from seethrough.recipe import Stage
    from seethrough.recipe.experiment_file import load_class
    from seethrough.recipe.record import from_record

    if spec["file"] is not None:
        load_class(Path(spec["file"]))  # it may define the stage's class
    stage = from_record(spec["stage"])
    assert isinstance(stage, Stage)
    finished = run_stage(Work.from_plain(spec["work"], stage))
    if finished is not None:
        Path(spec["made"]).write_text(json.dumps(finished.plain()))
    part()


if __name__ == "__main__":
    main(sys.argv[1])
