from pathlib import Path

import pytest

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action
from app.protocol.filters.text_filter import TextFilter
from app.rules.document import (
    MAX_FILE_PROFILES,
    MAX_FILE_RULES,
    MAX_PHRASE_CHARACTERS,
    MAX_PHRASES,
    RulesRefused,
)
from app.rules.load import MAX_FILE_BYTES, MAX_FILES, RuleFile, compile_files, load
from app.rules.rulebook import MAX_RULES, Rulebook, UnknownProfile

PACK = """
pack: acme
description: Ours.
rules:
  - id: ticket
    description: Support tickets.
    pattern: 'ACME-[0-9]{4,8}'
"""


def loaded(tmp_path: Path, *texts: str) -> Rulebook:
    for number, text in enumerate(texts):
        (tmp_path / f"own-{number}.yaml").write_text(text, "utf-8")
    return load(tmp_path)


def refusal(tmp_path: Path, *texts: str) -> str:
    with pytest.raises(RulesRefused) as refused:
        loaded(tmp_path, *texts)
    return str(refused.value)


def pack(rule: str) -> str:
    return f"pack: acme\nrules:\n  - {{id: one, {rule}}}\n"


def filtered(text: str, rules: FilterRules) -> str:
    text_filter = TextFilter(rules)
    return text_filter.feed(text) + text_filter.close()


def masked(tmp_path: Path, rule: str, text: str) -> str:
    """By a rule of which `rule` says what it looks for."""
    profile = "profiles: {tried: {output: {acme: mask}}}\n"
    return filtered(text, loaded(tmp_path, pack(rule) + profile).profile("tried").output)


# -- what a rule says


def test_a_pattern_is_masked_by_the_id_of_its_rule(tmp_path: Path) -> None:
    assert masked(tmp_path, "pattern: 'ACME-[0-9]{4}'", "see ACME-1234") == "see [one]"


def test_a_replacement_stands_in_place_of_the_id(tmp_path: Path) -> None:
    rule = "pattern: 'ACME-[0-9]{4}', replacement: (ticket)"
    assert masked(tmp_path, rule, "see ACME-1234") == "see (ticket)"


def test_a_replacement_may_be_empty(tmp_path: Path) -> None:
    assert masked(tmp_path, "pattern: 'ACME-[0-9]{4}', replacement: ''", "a ACME-1234!") == "a !"


def test_a_pattern_minds_case_unless_told_otherwise(tmp_path: Path) -> None:
    assert masked(tmp_path, "pattern: 'acme'", "ACME") == "ACME"
    assert masked(tmp_path, "pattern: 'acme', ignore_case: true", "ACME") == "[one]"


def test_a_validator_decides_what_counts(tmp_path: Path) -> None:
    rule = "pattern: '[0-9]{16}', validator: luhn"
    text = "4111111111111111 4111111111111112"
    assert masked(tmp_path, rule, text) == "[one] 4111111111111112"


def test_then_hides_what_follows(tmp_path: Path) -> None:
    rule = "pattern: 'key_[a-z]{4}', then: '[a-z]'"
    assert masked(tmp_path, rule, "key_" + "abcd" * 500 + "!") == "[one]!"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the blue heron flies", "the [one] flies"),
        ("the Blue  HERON", "the [one]"),
        ("blue-heron", "[one]"),
        ("blue\nheron.", "[one]."),
        ("blue    heron", "blue    heron"),  # more than three
        ("bluest heron", "bluest heron"),
        ("navy-blue heron", "navy-[one]"),
        ("navyblue heron", "navyblue heron"),
        ("blue herons", "blue herons"),
        ("blue heron_2", "blue heron_2"),
        ("grey seal team", "[one]"),
        ("grey seal", "[one]"),
        ("c++ and c+", "[one] and c+"),
        ("objective-c++", "objective-[one]"),
        ("a blueheron", "a blueheron"),
    ],
)
def test_phrases_are_whole_words_whatever_their_case(
    tmp_path: Path, text: str, expected: str
) -> None:
    rule = "phrases: [blue heron, grey seal, grey seal team, C++]"
    assert masked(tmp_path, rule, text) == expected


def test_phrases_of_scripts_without_spaces_need_none(tmp_path: Path) -> None:
    rule = "phrases: [蓝鹭计划, heron]"
    assert masked(tmp_path, rule, "关于蓝鹭计划的事") == "关于[one]的事"
    assert masked(tmp_path, rule, "关于heron的事") == "关于[one]的事"


@pytest.mark.parametrize(
    "text",
    ["Über den Café-Plan", "u\u0308ber den cafe\u0301-plan", "über de\u200bn \u0441\u0430fé plan"],
)
def test_phrases_are_found_however_they_are_encoded(tmp_path: Path, text: str) -> None:
    assert masked(tmp_path, "phrases: [über den café plan]", f"x {text}.") == "x [one]."


def test_phrases_hold_no_pattern(tmp_path: Path) -> None:
    assert masked(tmp_path, "phrases: ['a.c', '[x]']", "abc a.c [x]") == "abc [one] [one]"


def test_text_stays_text_whatever_yaml_makes_of_it(tmp_path: Path) -> None:
    rule = "phrases: [2026-01-01, off, 1234, yes, true]"
    text = "On 2026-01-01 it was off, 1234, yes and true."
    assert masked(tmp_path, rule, text) == "On [one] it was [one], [one], [one] and [one]."


def test_many_phrases_are_one_rule_in_short_and_long_texts(tmp_path: Path) -> None:
    rule = f"phrases: [{', '.join(f'project number {n}' for n in range(MAX_PHRASES))}]"
    book = loaded(tmp_path, pack(rule) + "profiles: {tried: {output: {acme: mask}}}\n")
    profile = book.profile("tried")
    text = f"project number {MAX_PHRASES - 1}, project number {MAX_PHRASES}."
    assert profile.output_actions == {"acme.one": Action.MASK}
    assert filtered(text, profile.output) == f"[one], project number {MAX_PHRASES}."
    assert filtered(text * 100, profile.output) == f"[one], project number {MAX_PHRASES}." * 100


# -- profiles


def test_a_rules_own_word_wins_over_that_of_its_pack(tmp_path: Path) -> None:
    two = PACK + "  - {id: name, phrases: [heron]}\n"
    book = loaded(tmp_path, two + "profiles: {a: {output: {acme: mask, acme.name: off}}}")
    assert filtered("heron ACME-1234", book.profile("a").output) == "heron [ticket]"


def test_a_pack_that_no_profile_names_does_nothing(tmp_path: Path) -> None:
    book = loaded(tmp_path, PACK)
    for profile in book.profiles.values():
        assert "acme.ticket" not in {*profile.output_actions, *profile.input_actions}


def test_off_may_be_written_as_it_is_spoken(tmp_path: Path) -> None:
    book = loaded(tmp_path, PACK + "profiles: {off: {output: {acme: off}}}")
    assert book.profile("off").output_actions == {}


def test_a_prompt_that_is_refused_is_blocked(tmp_path: Path) -> None:
    profile = loaded(tmp_path, PACK + "profiles: {a: {input: {acme: refuse}}}").profile("a")
    assert profile.input_actions == {"acme.ticket": Action.BLOCK}
    assert profile.output_actions == {}


def test_a_dry_run_only_flags(tmp_path: Path) -> None:
    text = "profiles: {a: {output: {acme: block}, input: {acme: refuse}, dry_run: true}}"
    profile = loaded(tmp_path, PACK + text).profile("a")
    assert profile.dry_run
    assert profile.output_actions == profile.input_actions == {"acme.ticket": Action.FLAG}
    assert filtered("ACME-1234", profile.output) == "ACME-1234"


def test_own_profiles_may_use_and_replace_what_ships(tmp_path: Path) -> None:
    book = loaded(tmp_path, PACK + "profiles: {default: {output: {secrets: flag, acme: mask}}}")
    actions = book.profile("default").output_actions
    assert set(actions.values()) == {Action.FLAG, Action.MASK}
    assert not any(rule.startswith("personal-data.") for rule in actions)
    assert "strict" in book.profiles


def test_domains_are_kept_as_they_are_named(tmp_path: Path) -> None:
    text = "profiles: {a: {domains: {medical: annotate, law: refuse}}}"
    assert loaded(tmp_path, text).profile("a").domains == {"medical": "annotate", "law": "refuse"}


def test_a_profile_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownProfile, match="nobody"):
        load().profile("nobody")


def test_what_did_not_change_is_not_compiled_again(tmp_path: Path) -> None:
    mine = "profiles: {mine: {output: {secrets: mask}, input: {acme: flag}}}\n"
    before = loaded(tmp_path, PACK + mine)
    files = (RuleFile("own.yaml", PACK.replace("{4,8}", "{5,8}") + mine),)
    after = compile_files(files, previous=before)
    assert after.profile("strict").output is before.profile("strict").output
    assert after.profile("mine").output is before.profile("secrets-only").output
    assert after.profile("mine").input is not before.profile("mine").input


def test_what_ships_loads() -> None:
    book = load()
    assert set(book.packs) >= {"secrets", "personal-data", "leakage", "control"}
    assert book.profile("default").output_actions
    assert not book.profile("off").output_actions


# -- what is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'own-0.yaml: must hold "pack" and "rules", or "profiles"'),
        ("- a", 'own-0.yaml: must hold "pack" and "rules", or "profiles"'),
        ("pack: a", "own-0.yaml: the pack has no rules"),
        ("rules: [{id: a, pattern: b}]", 'own-0.yaml: give the rules a pack, as in "pack: acme"'),
        ("pack: a\npack: b", 'own-0.yaml: not YAML: line 2: the key "pack" stands here twice'),
        (
            "pack: &a b\ndescription: *a",
            "own-0.yaml: not YAML: line 2: aliases are not allowed; write it out",
        ),
        ("pack: !!python/name:os.system x", "own-0.yaml: not YAML: line 1: tags are not allowed"),
        ("pack: !!binary aGk=", "own-0.yaml: not YAML: line 1: tags are not allowed"),
        ("? [a]\n: b", "own-0.yaml: not YAML: line 1: a key must be text"),
        ("[" * 100_000, "own-0.yaml: not YAML: it is nested too deeply"),
        ("pack: [a]\nrules: []", "own-0.yaml: pack: must be text"),
        (pack("patern: b"), "own-0.yaml: rule one: patern: is not a field"),
        (pack("then: b"), 'own-0.yaml: rule one: give either "pattern" or "phrases"'),
        (
            pack("phrases: [b, ' ']"),
            "own-0.yaml: rule one: phrases[1]: holds nothing that can be seen",
        ),
        (pack('phrases: ["\\u200b"]'), "rule one: phrases[0]: holds nothing that can be seen"),
        (pack("phrases: []"), "own-0.yaml: rule one: phrases: is empty"),
        (
            pack(f"phrases: [{'b' * (MAX_PHRASE_CHARACTERS + 1)}]"),
            "own-0.yaml: rule one: phrases[0]: has more than 200 characters",
        ),
        (
            pack(f"phrases: [{'b,' * (MAX_PHRASES + 1)}]"),
            "own-0.yaml: rule one: phrases: has more than 2000 entries",
        ),
        (pack("pattern: b, ignore_case: perhaps"), "rule one: ignore_case: must be true or false"),
        (
            pack("pattern: b, replacement: 'a\"'"),
            "rule one: replacement: holds a quotation mark, a backslash or an invisible character",
        ),
        (pack('pattern: b, replacement: "\\e[2J"'), "a backslash or an invisible character"),
        (pack('pattern: "\\ud800"'), "rule one: pattern: holds half of a surrogate pair"),
        (pack("pattern: 'b{2,}'"), "own-0.yaml: rule one: pattern: "),
        (pack("pattern: '('"), "own-0.yaml: rule one: pattern: "),
        (pack("pattern: b, then: 'xy'"), "own-0.yaml: rule one: then: "),
        (pack("pattern: b, validator: magic"), "own-0.yaml: rule one: validator: there is none"),
        (pack("pattern: 'one|two'"), 'rule one: replacement: the rule matches "[one]"'),
        (
            pack("pattern: 'two', matches: [two, three]"),
            "own-0.yaml: rule one: matches[1]: the rule does not match it",
        ),
        (
            pack("pattern: 'two', spares: [three, twofold]"),
            "own-0.yaml: rule one: spares[1]: the rule matches it",
        ),
        (
            "pack: a\nrules: [{id: b, pattern: c}, {id: b, pattern: d}]",
            'own-0.yaml: two rules have the id "b"',
        ),
        ("pack: A b\nrules: []", "own-0.yaml: pack: must be 1 to 48 of a-z, 0-9 and -"),
        (
            "pack: secrets\nrules: [{id: b, pattern: c}]",
            'own-0.yaml: pack: there is a pack "secrets" already',
        ),
        (
            "profiles: {a: {output: {acme: mask}}}",
            'own-0.yaml: profile a: output: there is no pack or rule "acme"',
        ),
        (
            "profiles: {a: {output: {secrets: refuse}}}",
            "profile a: output.secrets: input should be 'mask', 'block', 'flag' or 'off'",
        ),
        ("profiles: {a: {domains: {cooking: allow}}}", "profile a: domains.cooking: input should"),
        ("profiles: {a: mask}", "own-0.yaml: profile a: must hold `name: value` pairs"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    said = refusal(tmp_path, text)
    assert reason in said
    assert len(said.splitlines()) == 1


def test_a_reason_steers_no_terminal_and_forges_no_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'pack: a\nrules: [{id: "b\\e[2J\\nerror: c", pattern: d}]')
    assert said.isprintable()


def test_one_bad_rule_refuses_all_files(tmp_path: Path) -> None:
    bad = "pack: other\nrules: [{id: a, pattern: 'a*'}]"
    assert refusal(tmp_path, PACK, bad).startswith("own-1.yaml: rule a: pattern: ")


def test_names_are_taken_once(tmp_path: Path) -> None:
    assert refusal(tmp_path, PACK, PACK) == 'own-1.yaml: pack: there is a pack "acme" already'
    (tmp_path / "own-0.yaml").unlink()
    (tmp_path / "own-1.yaml").unlink()
    profiles = "profiles: {mine: {}}"
    said = refusal(tmp_path, profiles, profiles)
    assert said == "own-1.yaml: profile mine: another file has it already"


def test_rules_and_profiles_are_limited_over_all_files(tmp_path: Path) -> None:
    rules = ", ".join(f"{{id: r{n}, phrases: [word{n}]}}" for n in range(MAX_FILE_RULES))
    texts = [f"pack: acme\nrules: [{rules}]", "pack: more\nrules: [{id: a, phrases: [one]}]"]
    assert refusal(tmp_path, *texts) == f"the files hold more than {MAX_RULES} rules"
    profiles = ", ".join(f"p{n}: {{}}" for n in range(MAX_FILE_PROFILES))
    texts = [f"profiles: {{{profiles}}}", "profiles: {more: {}}"]
    assert refusal(tmp_path, *texts) == "the files hold more than 64 profiles"


def test_phrases_are_limited_over_all_files(tmp_path: Path) -> None:
    phrases = ", ".join(f"word{n}" for n in range(MAX_PHRASES))
    rules = ", ".join(f"{{id: r{n}, phrases: [{phrases}]}}" for n in range(3))
    said = refusal(tmp_path, f"pack: acme\nrules: [{rules}]")
    assert said == "the files hold more than 4000 phrases"


# -- where files are


def test_a_single_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "any.name"
    path.write_text("\ufeff" + PACK, "utf-8")
    assert load(path).packs["acme"].rules


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    """As Kubernetes lays it out: the files are links into a directory that is replaced whole."""
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01" / "own.yaml").write_text(PACK)
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "own.yaml").symlink_to("..data/own.yaml")
    (tmp_path / ".own.yaml.swp").write_text("not: ours")
    (tmp_path / "README.md").write_text("not: ours")
    (tmp_path / "directory.yaml").mkdir()
    assert load(tmp_path).packs["acme"].rules


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(RulesRefused, match=r"cannot read .*missing\.yaml: No such file"):
        load(missing)
    with pytest.raises(RulesRefused, match=r"holds no \*\.yaml"):
        load(tmp_path)
    missing.write_bytes(b"pack: \xff")
    with pytest.raises(RulesRefused, match="is not UTF-8 text"):
        load(missing)
    missing.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(RulesRefused, match="has more than 1048576 bytes"):
        load(missing)
    for number in range(MAX_FILES):
        (tmp_path / f"{number}.yaml").write_text("profiles: {a: {}}")
    with pytest.raises(RulesRefused, match="holds more than 64 files"):
        load(tmp_path)


def test_a_pattern_may_name_characters_by_their_number(tmp_path: Path) -> None:
    """Which one engine spells in another way."""
    text = "pack: acme\nrules:\n  - {id: one, pattern: '[\\u00e0-\\u00ff]{3}'}\n"
    (tmp_path / "own.yaml").write_text(text, "utf-8")
    (rule,) = load(tmp_path / "own.yaml").packs["acme"].rules
    rules = FilterRules([(rule, Action.MASK)])
    for padding in ("", "x" * 5_000):  # in a long text the other engine looks first
        text_filter = TextFilter(rules)
        assert text_filter.feed(f"{padding} éèê.") + text_filter.close() == f"{padding} [one]."
