import os
from collections.abc import Iterator

import pytest

from tests.storage.staging.trees import Open, Scene
from tests.tools.lab import Lab


@pytest.fixture
def scene(lab: Lab, open_directory: Open) -> Iterator[Scene]:
    run = lab.run()
    scene = Scene(run, open_directory(run.parent))
    yield scene
    if scene.fenced >= 0:
        os.close(scene.fenced)
