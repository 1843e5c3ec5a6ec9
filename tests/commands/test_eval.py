"""`guildhall eval` asks a running server and says how well it remembers."""

import asyncio
import json
from pathlib import Path

import pytest

from guildhall.commands import Problem
from guildhall.commands.evaluate import KEY, evaluate, read_trial, score, summary
from tests.v1.client import listening
from tests.world import World

TRIAL = {
    "conversations": [
        {
            "id": "c1",
            "turns": [
                {"id": "1", "text": "Did you hear of the marathon?", "speaker": "Bo", "date": "2023-05-08"},
                {"id": "2", "text": "I ran it in four hours.", "speaker": "Caroline", "date": "2023-05-08"},
                {"id": "3", "text": "Yes.", "speaker": "Bo"},
                {"id": "4", "text": "The cat sleeps.", "speaker": "Caroline"},
                {"id": "5", "text": "Yes.", "speaker": "Bo"},
            ],
            "questions": [
                {"question": "Who heard of the marathon?", "gold": ["1"]},
                {"question": "What did Caroline do at the marathon?", "gold": ["1", "2"]},
                {"question": "Where is the submarine?", "gold": ["4"]},
            ],
        }
    ]
}


def test_what_is_found_first_counts_most() -> None:
    good, late = score(["a", "b", "c"], {"a", "b"}), score(["x", "y", "z", "v", "w", "a"], {"a", "b"})
    assert (good.any_5, good.all_5, good.recall_10, good.ndcg_10) == (1, 1, 1, 1)
    assert (late.any_5, late.all_5, late.recall_10) == (0, 0, 0.5)
    assert 0 < late.ndcg_10 < 0.5
    assert summary([good, good])[0] == "any@5      1.000 ± 0.000"


async def test_a_server_is_asked_through_its_public_api(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = await world.person("ada")
    file = tmp_path / "trial.json"
    file.write_text(json.dumps(TRIAL))
    monkeypatch.setenv(KEY, ada.token or "")
    async with listening(world) as http:
        await asyncio.to_thread(evaluate, file, base=str(http.base_url))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 questions"
    assert [line.split()[:2] for line in printed[1:3]] == [["any@5", "0.667"], ["all@5", "0.667"]]
    assert len((await ada.get("/v1/hubs")).data()) == 1


def test_a_file_of_another_form_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trial.json"
    file.write_text("{}")
    with pytest.raises(Problem, match="conversations"):
        read_trial(file)
    file.write_text(json.dumps(TRIAL))
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(Problem, match=KEY):
        evaluate(file)
