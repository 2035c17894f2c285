"""What holds for every test: no hub, no tracking server, and in CI no skipped test."""

import os

import pytest
from hypothesis import settings

# Read when the libraries are imported, here and in the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

IN_CI = bool(os.environ.get("CI"))

# A busy machine is no failure, so no deadline; in CI the same examples every time.
settings.register_profile("seethrough", deadline=None, derandomize=IN_CI)
settings.load_profile("seethrough")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a CI run that skipped a test: CI has everything that tests may skip for."""
    if IN_CI and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why such a run failed."""
    if IN_CI and (count := _skipped(config)):
        terminalreporter.write_line(f"CI: {count} skipped, which counts as failed", red=True)


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", [])) if reporter else 0
