from app.cli.table import fields, table


def test_columns_are_aligned_and_nothing_shows_as_a_dash() -> None:
    assert table(("ID", "NAME"), [("a", "first"), ("long-id", None)]) == (
        "ID       NAME\na        first\nlong-id  -"
    )


def test_a_table_without_rows_is_its_head() -> None:
    assert table(("ID", "NAME"), []) == "ID  NAME"


def test_fields_are_aligned() -> None:
    assert fields([("id", "x"), ("tenant", None)]) == "id      x\ntenant  -"


def test_no_text_can_move_the_cursor_or_forge_a_line() -> None:
    shown = fields([("agent", "a\x1b[2J\nid  forged\x9b1A\u202e")])
    assert shown == "agent  a\\x1b[2J\\nid  forged\\x9b1A\\u202e"


def test_text_of_other_scripts_stays_as_it_is() -> None:
    assert fields([("name", "Zürich 東京")]) == "name  Zürich 東京"
