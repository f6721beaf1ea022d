"""What a run prints, made fit to be stored and shown, in pieces, bounded."""

import pytest

from shim.jobs.log_text import MOST, PIECE, TAIL, Printed, pieces, shown


@pytest.mark.parametrize(
    ("printed", "fit"),
    [
        ("TASK [a]\r\nok: [lab1]\r\n", "TASK [a]\nok: [lab1]\n"),
        ("10 %\r50 %\r100 %\n", "10 %\n50 %\n100 %\n"),
        ("\x1b[0;31mfatal\x1b[0m", "fatal"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[1;1Hnothing above", "nothing above"),
        ("\x1b", "\ufffd"),
        ("a\x00b\x07c\x9bd", "a\ufffdb\ufffdc\ufffdd"),
        ("half \udcff of a pair", "half ? of a pair"),
        ("abc\u202etxt.exe", "abc\ufffdtxt.exe"),
        ("tab\there, 日本 ✓", "tab\there, 日本 ✓"),
    ],
)
def test_what_is_printed_is_text_for_any_terminal(printed, fit):
    assert shown(printed) == fit


def test_pieces_end_with_lines_and_lose_nothing():
    text = "".join(f"line {number}\n" for number in range(5000))
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(len(piece) <= PIECE and piece.endswith("\n") for piece in cut)


def test_a_line_longer_than_a_piece_is_cut():
    assert [len(piece) for piece in pieces("x" * (PIECE * 2 + 1))] == [PIECE, PIECE, 1]


def taken(printed):
    return "".join(printed.take())


def test_what_was_added_is_taken_once():
    printed = Printed()
    assert not printed.waits()
    printed.add("a\n")
    printed.add("b\n")
    assert printed.waits()
    assert (taken(printed), taken(printed)) == ("a\nb\n", "")


def test_of_too_much_the_beginning_and_the_end_are_kept_and_the_gap_is_told():
    printed = Printed()
    for number in range(50):
        printed.add(f"{number:04}" + "x" * 99_996)
    printed.add("the very last\n")
    head = taken(printed)
    assert head.startswith("0000x")
    assert "the log of this job is full" in head
    assert head.index("\n[… the log") == MOST
    printed.end()
    tail = taken(printed)
    left_out = 50 * 100_000 + len("the very last\n") - MOST - TAIL
    assert tail.startswith(f"\n[… {left_out} characters are left out here …]\n")
    assert tail.endswith("the very last\n")
    assert len(tail) < TAIL + 100


def test_a_little_too_much_loses_nothing():
    printed = Printed()
    printed.add("x" * MOST)
    printed.add("the end")
    assert "left out" not in taken(printed)
    printed.end()
    assert taken(printed) == "the end"


def test_what_the_job_printed_before_counts_and_a_job_without_end_is_bounded():
    for before, room in ((MOST - 10, 10), (MOST, 0)):
        printed = Printed()
        printed.charge(before)
        printed.add("y" * 100)
        assert taken(printed).split("\n")[0] == "y" * room
        printed.end()
        assert taken(printed) == "y" * (100 - room)
    printed = Printed()
    printed.charge(2 * MOST)
    printed.add("never seen")
    printed.end()
    assert not printed.waits()
