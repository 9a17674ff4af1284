"""The codec benchmark asserts its own outcome; here it runs once, briefly."""

from bench import codec


def test_it_runs_and_compares_with_every_baseline() -> None:
    rows = codec.run(rounds=1)["rows"]
    assert {row["baseline"] for row in rows} >= {"flatbuffers", "msgspec msgpack", "orjson"}
    assert all(row["ours"] > 0 and row["ratio"] for row in rows)
