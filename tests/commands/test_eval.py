"""`guildhall eval` asks a running server and says how well it remembers."""

import asyncio
import json
from pathlib import Path

import pytest

from guildhall.commands import Problem
from guildhall.commands.evaluate import KEY, evaluate, read_trial, score, summary
from tests.v1.client import listening
from tests.world import World

EXAMPLE = Path(__file__).parents[2] / "bench" / "conversation.json"
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
                {"id": "6", "text": ""},
            ],
            "questions": [
                {"question": "Who heard of the marathon?", "gold": ["1"], "category": 1},
                {"question": "What did Caroline do at the marathon?", "gold": ["1", "2"], "category": 1},
                {"question": "Where is the submarine?", "gold": ["4", "nowhere"], "category": "lost"},
                {"question": "Was there a whale?", "gold": []},
                {"question": "Who said nothing?", "gold": ["6", "7"]},
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
    # Of n answers with the variance v, the mean lies within 1.96 √(v / n) of the true one.
    assert summary([good, good, good, late])[0] == "any@5      0.750 ± 0.490"
    assert summary([good])[0] == "any@5      1.000"


async def test_a_server_is_asked_through_its_public_api(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = await world.person("ada")
    file = tmp_path / "trial.json"
    file.write_text(json.dumps(TRIAL))
    monkeypatch.setenv(KEY, ada.token or "")
    async with listening(world) as http:
        await asyncio.to_thread(evaluate, file, base=str(http.base_url), missed=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 questions; 2 without an answer left out"
    assert [line.split()[:2] for line in printed[1:3]] == [["any@5", "0.667"], ["all@5", "0.667"]]
    assert printed[6].split() == ["category", "questions", "any@5", "all@5", "recall@10", "nDCG@10"]
    assert [line.split()[:3] for line in printed[7:9]] == [["1", "2", "1.000"], ["lost", "1", "0.000"]]
    assert printed[-1] == "Where is the submarine?"
    assert len((await ada.get("/v1/hubs")).data()) == 1


@pytest.mark.parametrize(
    ("turns", "named"),
    [
        ([{"id": "1"}], "text"),
        ([{"id": "1", "text": "a"}, {"id": "1", "text": "b"}], "2 turns have the id '1'"),
        ([{"id": "1", "text": "a", "date": "8 May"}], "date of turn '1' is no ISO 8601 time: '8 May'"),
    ],
)
def test_what_does_not_fit_in_a_file_is_named(tmp_path: Path, turns: list[object], named: str) -> None:
    file = tmp_path / "trial.json"
    file.write_text(json.dumps({"conversations": [{"id": "c", "turns": turns, "questions": []}]}))
    with pytest.raises(Problem, match=named):
        read_trial(file)


def test_a_file_of_another_form_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trial.json"
    file.write_text("{}")
    with pytest.raises(Problem, match="conversations"):
        read_trial(file)
    with pytest.raises(Problem, match="No such file"):
        read_trial(tmp_path / "nowhere.json")
    file.write_text(json.dumps(TRIAL))
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(Problem, match=KEY):
        evaluate(file)
    monkeypatch.setenv(KEY, "key")
    with pytest.raises(Problem, match="does not answer"):
        evaluate(file, base="http://127.0.0.1:9")
    file.write_text('{"conversations": []}')
    with pytest.raises(Problem, match="asks nothing"):
        evaluate(file)


async def test_of_the_example_as_much_is_found_as_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A little less will do: which of two that are equally good comes first is left to chance."""
    ada = await world.person("ada")
    monkeypatch.setenv(KEY, ada.token or "")
    async with listening(world) as http:
        for plain, least in ((True, (0.59, 0.49, 0.55, 0.46)), (False, (0.64, 0.56, 0.67, 0.56))):
            await asyncio.to_thread(evaluate, EXAMPLE, base=str(http.base_url), plain=plain)
            printed = capsys.readouterr().out.splitlines()
            assert printed[0] == "114 questions"
            found = [float(line.split()[1]) for line in printed[1:5]]
            assert all(value >= bar for value, bar in zip(found, least, strict=True)), found
