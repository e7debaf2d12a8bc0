"""A running simulator for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from esp.simulator.server import Simulator
from tests.esp.simulator.world import config


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(config(tmp_path)) as running:
        yield running
