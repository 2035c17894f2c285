"""What the machine that an experiment runs on provides to all of its stages."""

from typing import Literal

from seethrough.recipe import Section, recipe


@recipe
class Environment(Section):
    """Folders of data, and variables that libraries read in every process of a run.

    A variable that is none stays as the user's environment has it. One that the user's
    environment sets otherwise stays so too, and the run says so.
    """

    data_roots: tuple[str, ...] = ("workspace/datasets",)
    """Folders in which `file:` sources and the entries of sample lists are looked up where they
    are relative and not found beside: sources after the working directory, entries before it."""

    hf_home: str | None = None
    """HF_HOME: folder of the hub's cache and of the token."""

    hf_endpoint: str | None = None
    """HF_ENDPOINT: address of the hub, or of a mirror."""

    hf_hub_offline: bool | None = None
    """HF_HUB_OFFLINE: take from the hub only what is in the cache."""

    hf_xet_high_performance: bool | None = None
    """HF_XET_HIGH_PERFORMANCE: fast transfer from the hub, with all of the network and cores."""

    expandable_segments: bool | None = None
    """PYTORCH_ALLOC_CONF=expandable_segments: GPU memory in segments that grow, against
    fragmentation."""

    nccl_p2p_level: Literal["LOC", "NVL", "PIX", "PXB", "PHB", "SYS"] | None = None
    """NCCL_P2P_LEVEL: how far apart GPUs may be to copy directly: never (LOC), over NVLink (NVL),
    one PCI switch (PIX), several (PXB), one NUMA node (PHB), or any (SYS)."""

    nccl_p2p_disable: bool | None = None
    """NCCL_P2P_DISABLE: never copy directly between GPUs."""

    nccl_ib_disable: bool | None = None
    """NCCL_IB_DISABLE: use no InfiniBand between machines."""

    nccl_socket_ifname: str | None = None
    """NCCL_SOCKET_IFNAME: network interfaces to use between processes, by prefixes: eth0,ib."""

    nccl_debug: Literal["VERSION", "WARN", "INFO", "TRACE"] | None = None
    """NCCL_DEBUG: what NCCL prints."""
