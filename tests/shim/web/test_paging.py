"""The cursor: whatever key it is made of comes back, and nothing else is taken for one."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from shim.errors import Invalid
from shim.web import paging

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(st.lists(TEXT, max_size=4))
def test_a_cursor_gives_back_the_key_it_was_made_of(parts):
    cursor = paging.encode(*parts)
    assert paging.decode(cursor, len(parts)) == parts
    assert cursor.replace("-", "").replace("_", "").isalnum() or cursor == ""


@given(st.text())
def test_any_text_is_a_key_of_texts_or_a_refusal(text):
    with contextlib.suppress(Invalid):
        parts = paging.decode(text, 2)
        assert len(parts) == 2
        assert all(isinstance(part, str) for part in parts)
