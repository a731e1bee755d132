import pytest

from app.protocol.repetition import LoopDetector
from app.smoke.document import make_document


@pytest.mark.parametrize("characters", [200, 4_000, 400_000])
def test_a_document_is_as_long_as_wanted_to_a_sentence(characters: int) -> None:
    text = make_document("seed", characters).text
    assert characters - 10 <= len(text) <= characters + 150


def test_the_words_stand_in_one_sentence_at_their_depth() -> None:
    for seed in range(20):
        document = make_document(str(seed), 20_000)
        needle = f"The two words that open the green gate are {document.words}."
        assert document.text.count(needle) == 1
        assert document.text.count(document.words) == 1
        assert abs(document.text.index(needle) / len(document.text) - document.depth) < 0.02


def test_a_seed_makes_the_same_document_and_another_one_shares_no_page() -> None:
    text = make_document("a", 10_000).text
    assert make_document("a", 10_000).text == text
    pages = text.split("\n\n")[1::2]
    others = make_document("b", 10_000).text.split("\n\n")[1::2]
    assert pages
    assert not set(pages) & set(others)


def test_no_stretch_of_it_goes_round_in_circles() -> None:
    text = make_document("seed", 200_000).text
    assert not LoopDetector(repeats=3, characters=200).feed(text)
    sentences = text.replace("\n", " ").split(". ")
    assert len(set(sentences)) > 0.98 * len(sentences)


def test_it_is_plain_ascii() -> None:
    text = make_document("seed", 100_000).text
    assert text.isascii()
    assert "<" not in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("answer", "found"),
    [("{0}", True), ("The words are\n {1}.", True), ("{2}", False), ("", False)],
)
def test_the_words_are_found_however_they_are_written(answer: str, found: bool) -> None:
    document = make_document("seed", 2_000)
    first, second = document.words.split()
    said = answer.format(document.words.title(), f"{first}  {second}", f"{second} {first}")
    assert document.found_in(said) is found
