"""What a person who waits is told."""

import time

import pytest

from guildhall.commands import progress
from guildhall.commands.progress import Telling


def test_how_long_it_takes_is_counted_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_AFTER_S", 0.01)
    monkeypatch.setattr(progress, "THEN_EVERY_S", 0.01)
    stopping = Telling("Stopping …")
    # It is made at the start of a service and begins with its end.
    stopping._since -= 500
    stopping.start()
    time.sleep(0.2)
    stopping.stop()
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["Stopping …", "Stopping … 0 s"]
