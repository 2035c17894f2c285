"""Stages that make samples shard by shard, on this machine or on a cluster."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.recipe import Execution, PositiveInt, Stage, recipe


@recipe
class ShardedStage(Stage):
    """Work that is cut into shards, the same whoever makes them; a finished one is kept."""

    resumes: ClassVar[bool] = True

    form: Literal["folder", "shards"] = "folder"
    """Files in folders with a sample list, or WebDataset tar shards with a manifest."""

    shard_size: PositiveInt = 256
    """Samples of a shard: of a tar or of a folder, which a worker makes as a whole."""

    target: Execution[str | None] = None
    """Where the samples go: a folder, or of shards any address that fsspec opens, such as
    s3://bucket/folder; none puts them into the stage's own folder."""

    on: Execution[Literal["local", "ray"]] = "local"
    """Work in processes of this machine, or on Ray: the one at RAY_ADDRESS, else one that is
    started on this machine."""

    workers: Execution[PositiveInt | None] = None
    """Shards in work at a time, each on one core; none takes the cores of this machine."""

    refused: Execution[Literal["stop", "leave_out"]] = "stop"
    """When samples were refused, stop after all others are made, or finish without them."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.form == "folder" and self.target is not None and "://" in self.target:
            yield "target", f"{self.target} is no folder of this machine: set form=shards for it"
