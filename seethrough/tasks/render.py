"""The stage that renders samples of labelled characters, shard by shard."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from seethrough.characters.form import list_characters
from seethrough.characters.labels import read_labels
from seethrough.data.shards import MANIFEST, SAMPLES, Manifest, ShardEntry
from seethrough.engine.executor import run_tasks
from seethrough.engine.files import write_text
from seethrough.errors import InputError
from seethrough.recipes.render import Render
from seethrough.render.shards import (
    Refusal,
    Shards,
    Target,
    Written,
    read_record,
    record_path,
    write_record,
)
from seethrough.render.worker import RenderShard
from seethrough.tasks.task import StageContext, StageResult

FOLDER = "samples"
RECORDS = "shards"
REFUSED = "refused.jsonl"


def render(stage: Render, context: StageContext) -> StageResult:
    """Render what is not rendered yet, then write the list of samples and the manifest.

    Raises InputError when there is no character, when the target holds something else, and at the
    end when samples were refused and the stage is not to go on without them.
    """
    folder = context.path(stage.characters)
    names, left_out = _characters(folder)
    shards = Shards(names, stage.samples_each, stage.shard_size)
    target = Target(stage.target or str(context.directory / FOLDER))
    records = context.directory / RECORDS
    records.mkdir(exist_ok=True)
    kept = _kept(shards, records, _look_at(target, records), retry=stage.refused == "stop")
    target.clear_partial()
    context.report(
        f"{context.name}: {len(names):,} characters, {shards.samples:,} samples in {len(shards):,} "
        f"shards" + (f"; {left_out:,} characters are left out by their labels" if left_out else "")
    )

    summary = run_tasks(
        RenderShard(
            characters=str(folder.resolve()),
            target=target.address,
            form=stage.form,
            options=stage.options,
            backgrounds=_backgrounds(stage, context),
            seed=stage.seed,
        ),
        shards,
        on=stage.on,
        workers=stage.workers or os.cpu_count() or 1,
        done=lambda shard: shard.name in kept,
        finished=lambda shard, written: write_record(records, written),
        report=lambda line: context.report(f"{context.name}: {line}"),
        unit="samples",
    )
    failed = {failure.task.name for failure in summary.failed}

    def finished() -> Iterator[Written]:
        records_of = (read_record(records, shard.name) for shard in shards)
        yield from (one for one in records_of if one is not None and one.name not in failed)

    made = total = 0
    refused = [
        (failure.task.name, Refusal("", failure.task.size, failure.reason))
        for failure in summary.failed
    ]
    for shard in finished():
        made += len(shard.pages)
        total += shard.bytes
        refused += [(shard.name, refusal) for refusal in shard.refused]
    lost = sum(refusal.samples for _, refusal in refused)
    context.report(
        f"{context.name}: {made:,} samples of {total / 2**30:.3g} GiB, {summary.made:,} shards made"
        f" and {summary.kept:,} kept; {lost:,} samples refused"
    )
    _write_refused(context.directory / REFUSED, refused)
    if refused and (stage.refused == "stop" or not made):
        raise InputError(_refusal_message(context, [refusal for _, refusal in refused]))
    samples = _finish(stage, target, finished(), context.directory)
    metrics = {"samples": made, "refused": lost, "bytes": total}
    return StageResult({"samples": samples}, {name: float(n) for name, n in metrics.items()})


def _characters(folder: Path) -> tuple[list[str], int]:
    """The characters to render by their folders' names, and how many their labels leave out."""
    found = list_characters(folder)
    names = [path.name for path in found if _is_wanted(path)]
    if not names:
        raise InputError(
            f"{folder}: no character to render: python -m seethrough.ingest SOURCE --out={folder} "
            "makes them, python -m seethrough.label labels them"
        )
    return names, len(found) - len(names)


def _is_wanted(character: Path) -> bool:
    """Whether a character's labels let it be rendered; what is wrong with them a worker tells."""
    try:
        labels = read_labels(character)
    except InputError:
        return True
    return labels is None or labels.valid


def _look_at(target: Target, records: Path) -> set[str]:
    """What the target holds. Raises InputError when that is not of this render."""
    try:
        names = {path.rsplit("/", 1)[-1] for path in target.files.ls(target.root, detail=False)}
    except FileNotFoundError:
        return set()
    except Exception as error:  # each protocol has its own
        raise InputError(
            f"{target.address}: can't be read: {type(error).__name__}: {error}"
        ) from error
    if names & {MANIFEST, SAMPLES} and not any(records.iterdir()):
        raise InputError(
            f"{target.address}: holds samples that this stage has not made: name another target, "
            "or delete what is there"
        )
    return names


def _kept(shards: Shards, records: Path, there: set[str], retry: bool) -> set[str]:
    """The shards that are not made again: `retry` says whether those with refusals are."""
    kept: set[str] = set()
    for shard in shards:
        written = read_record(records, shard.name)
        if written is not None and written.file in there and not (written.refused and retry):
            kept.add(shard.name)
        elif written is not None:
            # Or a kill on the way would leave the old record with new files.
            record_path(records, shard.name).unlink()
    return kept


def _backgrounds(stage: Render, context: StageContext) -> tuple[Path, ...]:
    if stage.backgrounds is None:
        return ()
    return tuple(path.absolute() for path in context.pages(stage.backgrounds))


def _write_refused(path: Path, refused: Iterable[tuple[str, Refusal]]) -> None:
    """Write what was refused, a line a shard and character, with the reason."""
    lines = [{"shard": shard, **attrs.asdict(refusal)} for shard, refusal in refused]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _refusal_message(context: StageContext, refused: Sequence[Refusal]) -> str:
    reasons = list(dict.fromkeys(one.reason for one in refused))
    shown = "".join(f"  {reason}\n" for reason in reasons[:5])
    return (
        f"{sum(one.samples for one in refused):,} samples are refused, for {len(reasons):,} reasons"
        f" that {context.directory / REFUSED} lists:\n{shown}"
        f"Run the same command again when they are mended (--accept={context.name} keeps all that "
        f"is finished), or go on without them: --{context.name}.refused=leave_out"
    )


def _finish(stage: Render, target: Target, written: Iterable[Written], directory: Path) -> Path:
    """Write the list of samples, and last the manifest; returns what datasets are given."""
    outside = target.folder is None or target.folder.resolve() != (directory / FOLDER).resolve()
    entries: list[ShardEntry] = []
    digest = hashlib.sha256()
    with target.new_file(SAMPLES) as file:
        for shard in written:
            text = "".join(f"{page}\n" for page in shard.pages).encode()
            file.write(text)
            digest.update(text)
            entries.append(ShardEntry(shard.file, len(shard.pages), shard.bytes, shard.sha256))
    if stage.form == "folder":
        assert target.folder is not None
        if not outside:
            return directory / FOLDER / SAMPLES
        pages = (target.folder / SAMPLES).read_text(encoding="utf-8").splitlines()
        write_text(directory / SAMPLES, "".join(f"{target.folder / page}\n" for page in pages))
        return directory / SAMPLES
    manifest = Manifest(target.address, tuple(entries), digest.hexdigest())
    with target.new_file(MANIFEST) as file:
        file.write(manifest.text(None).encode())
    if not outside:
        return directory / FOLDER / MANIFEST
    write_text(directory / MANIFEST, manifest.text(target.address))
    return directory / MANIFEST
