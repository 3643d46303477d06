"""Parsers of what strangers write: they answer or refuse, whatever it is, and what they keep can be stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.generation import Generation
from detector.licences import normalise
from detector.metadata import read_generation, read_report_in
from detector.provenance.comfyui import read_graph
from detector.provenance.infotext import read_infotext
from detector.provenance.invokeai import read_dream, read_metadata, read_sd_metadata
from detector.provenance.settings import generation_from
from index.credits import NO_CREDITS, ColumnNames, CreditReader, Credits, as_text, clean_text, find_column
from index.embedded import read_credits
from index.errors import UsageError
from index.items import Rejected
from index.lists import named_item
from index.locations import Location, parse_location

texts = st.text(st.characters(codec=None), max_size=60)  # half characters, too
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
columns = (
    st.sampled_from(["artist", "Author Name", "licence", "rights", "url", "caption", "exif", "file_name"])
    | texts
)


def can_be_stored(*kept: str) -> None:
    for text in kept:
        assert isinstance(text, str)
        text.encode("utf-8")


def credits_can_be_stored(credits: Credits) -> None:
    can_be_stored(credits.artist, credits.title, credits.licence, credits.source, credits.caption)
    can_be_stored(*credits.extra, *credits.extra.values())


def generation_can_be_stored(found: Generation | None) -> None:
    if found is not None:
        assert Generation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@given(texts)
@example("a\x00\ud800\x1b[2J\u202e")
def test_cleaned_text_can_be_stored_and_is_clean(text: str) -> None:
    once = clean_text(text)
    can_be_stored(once)
    assert clean_text(once) == once
    assert len(clean_text(text, max_length=10)) <= 10


@given(values)
def test_any_cell_is_text(value: Any) -> None:
    can_be_stored(as_text(value))


@settings(deadline=None)
@given(st.dictionaries(columns, values, max_size=8), st.none() | texts)
def test_any_row_has_credits_that_can_be_stored(row: dict[str, Any], told: str | None) -> None:
    credits_can_be_stored(CreditReader(ColumnNames(artist=told)).read(row))
    if told is not None:
        found = find_column(row, told)
        assert found is None or found in row


@given(
    texts
    | st.sampled_from(["file://", "https://", "data:image/png;base64,"]).flatmap(
        lambda s: texts.map(s.__add__)
    )
)
def test_any_name_is_a_file_or_a_reason(name: str) -> None:
    found = named_item(Path("nowhere"), name, NO_CREDITS, "list.csv::row 1", 1000)
    can_be_stored(found.locator)
    if isinstance(found, Rejected):
        can_be_stored(found.reason, found.detail)


locations = st.sampled_from(["milvus:", "milvus:/", "milvus://", "art.db/", ""])


@given(locations, st.text(st.sampled_from("ab1_@:/.\\- \u00e9"), max_size=20))
def test_any_location_is_one_or_is_refused(beginning: str, rest: str) -> None:
    try:
        found = parse_location(beginning + rest)
    except UsageError:
        return
    assert isinstance(found, Location)
    assert parse_location(str(found)) == found or found.folder is not None


@given(texts)
def test_any_licence_has_one_spelling(text: str) -> None:
    found = normalise(text)
    if found.id:
        assert normalise(found.id).id == found.id


@settings(deadline=None)
@given(texts, values, values)
def test_any_generator_text_is_read_or_passed_over(text: str, prompt: Any, workflow: Any) -> None:
    for read in (read_infotext, read_dream, read_metadata, read_sd_metadata):
        generation_can_be_stored(read(text))
    generation_can_be_stored(read_infotext(f"a cat\nSteps: 20, {text}: {text}, Seed: 5"))
    generation_can_be_stored(read_graph(prompt, workflow))


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "seed", "steps", "cfg", "model", "denoise", "source"]) | texts, values
    )
)
def test_any_settings_are_a_generation(told: dict[str, Any]) -> None:
    generation_can_be_stored(generation_from(told))


magic = st.sampled_from(
    [
        b"",
        b"\xff\xd8\xff\xe1\0\x20Exif\0\0II*\0",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\1\0WEBP",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
    ]
)


@settings(deadline=None)
@given(magic, st.binary(max_size=300))
def test_any_bytes_have_metadata_or_none(beginning: bytes, rest: bytes) -> None:
    credits_can_be_stored(read_credits(beginning + rest))
    generation_can_be_stored(read_generation(beginning + rest))
    read_report_in(beginning + rest)
