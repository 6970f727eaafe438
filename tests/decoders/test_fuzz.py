"""No bytes make a decoder raise: by Hypothesis from good messages that are bent, and by atheris, which looks for branches."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.decode import RowDecoder
from decoders.edge_nodes import EdgeNodes
from decoders.library import adapted, gathered, read_document, shipped_names
from decoders.mappings import Mappings
from decoders.shapes import Shapes
from journal.messages import decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from tests.decoders.samples import DECODERS, SAMPLES, topics_of

RUNS = int(os.environ.get("VITALANE_FUZZ_RUNS", "2000"))
EXAMPLES = int(os.environ.get("VITALANE_EXAMPLES", "60"))
NOW_MS = 1_763_674_000_123


def built(name: str) -> RowDecoder:
    documents = [(name, adapted(read_document(name), {"zone": "UTC"}, name))] if name in shipped_names() else []
    library = gathered(documents, {})
    return RowDecoder(CATALOGUE | {metric.name: metric for metric in library.metrics}, Mappings(library.mappings))


@st.composite
def bent(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """A good message with a piece cut out, put in, doubled or replaced."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 12)))
        put_in = draw(st.binary(max_size=6) | st.sampled_from([b"null", b"-1", b"1e999", b"{}", b"[", b'"', b"\n", data[at:end] * 2]))
        data = data[:at] + put_in + data[end:]
    return data


@pytest.mark.parametrize("name", DECODERS)
def test_no_bent_message_raises(name):
    """Law 8: whatever one device sends, the row that it stands in is decoded, and what was read of it is finite."""
    decoder, shapes, sessions = built(name), Shapes(), EdgeNodes("shipment")

    @settings(max_examples=EXAMPLES)
    @given(st.lists(st.tuples(st.sampled_from(topics_of(name)), bent(SAMPLES[name]) | st.binary(max_size=200)), min_size=1, max_size=5))
    def check(messages: list[tuple[bytes, bytes]]) -> None:
        row = decode_messages(encode_messages([topic for topic, _ in messages], [data for _, data in messages], bytes(len(messages))))
        decoded = decoder.decode(row, NOW_MS, shapes, sessions)
        assert len(decoded.packets.values) == sum(map(len, decoded.packets.metrics))
        assert all(-1e309 < value < 1e309 for value in decoded.packets.values)
        assert all(len(refusal.detail) < 400 for refusal in decoded.refusals)

    check()


@pytest.mark.parametrize("name", DECODERS)
def test_a_good_message_is_read(name):
    """What is bent above means something when it is not."""
    decoder, sessions = built(name), EdgeNodes("shipment")
    pairs = [(topic, data) for data in SAMPLES[name] for topic in topics_of(name)]
    row = decode_messages(encode_messages([topic for topic, _ in pairs], [data for _, data in pairs], bytes(len(pairs))))
    decoded = decoder.decode(row, NOW_MS, None, sessions)
    assert len(decoded.packets.values) + len(decoded.statuses) > 0


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
@pytest.mark.parametrize("name", DECODERS)
def test_atheris_finds_nothing(name):
    """`VITALANE_FUZZ_RUNS=1000000 pytest tests/decoders/test_fuzz.py` for longer."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.decoders.fuzzing", name, "--runs", str(RUNS)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110 + RUNS / 100, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"{name}: {RUNS} messages" in ended.stdout
