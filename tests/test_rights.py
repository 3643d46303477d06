"""Licences are read into one vocabulary, in doubt against clearing; a policy clears what its user allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.licences import VOCABULARY
from detector.report import Evidence, ImageReport, Match, Occurrence, Reference, Verdict
from detector.rights import (
    LicenceFamily,
    OptOutSignal,
    Policy,
    credit_line,
    judge,
    licence_sentence,
    normalise,
    opt_outs,
)
from index.errors import UsageError

PUBLIC_DOMAIN = "LicenseRef-Public-Domain"
RESERVED = "LicenseRef-All-Rights-Reserved"
GENEROUS = Policy.from_flags(
    ["public-domain", "attribution", "share-alike", "permissive", "copyleft", "LicenseRef-Unsplash"]
)


def reference(*occurrences: Occurrence) -> Reference:
    return Reference(id=1, sha256="", width=10, height=10, occurrences=occurrences)


def licensed(*licences: str) -> Reference:
    return reference(*(Occurrence(path=f"{n}.jpg", licence=text) for n, text in enumerate(licences)))


@pytest.mark.parametrize(
    ("raw", "identifier"),
    [
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("cc-by-sa-3.0-de", "CC-BY-SA-3.0-DE"),
        ("CC0-1.0", "CC0-1.0"),
        ("lgpl-3.0", "LGPL-3.0-only"),
        ("GPLv2+", "GPL-2.0-or-later"),
        ("LicenseRef-Acme.2", "LicenseRef-Acme.2"),
        ("https://creativecommons.org/licenses/by-sa/3.0/de/", "CC-BY-SA-3.0-DE"),
        ("http://www.creativecommons.org/licenses/by-nc/2.0/fr/legalcode", "LicenseRef-CC-BY-NC-2.0-FR"),
        ("http://creativecommons.org/publicdomain/zero/1.0", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/deed.en?ref=chooser-v1", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/deed.fr", "CC-PDM-1.0"),
        ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
        ("http://rightsstatements.org/vocab/InC/1.0/", "LicenseRef-RightsStatements-InC"),
        ("https://rightsstatements.org/page/NoC-US/1.0/?language=en", "LicenseRef-RightsStatements-NoC-US"),
        ("https://spdx.org/licenses/CC-BY-4.0.html", "CC-BY-4.0"),
        ("https://unsplash.com/license", "LicenseRef-Unsplash"),
        ("Public Domain", PUBLIC_DOMAIN),
        ("This work is in the public domain", PUBLIC_DOMAIN),
        ("PD-old-100", PUBLIC_DOMAIN),
        ("Public domain (NASA / US government)", PUBLIC_DOMAIN),
        ("Public Domain (by age of the work; repo gives no licence)", PUBLIC_DOMAIN),
        ("Public domain by age (Rider-Waite-Smith tarot, 1909)", PUBLIC_DOMAIN),
        ("Public Domain Mark 1.0", "CC-PDM-1.0"),
        ("cc by 4.0", "CC-BY-4.0"),
        ("CC BY", "LicenseRef-CC-BY"),
        ("CC BY (version not stated)", "LicenseRef-CC-BY"),
        ("CC BY 2.0 (TensorFlow flower_photos set, Flickr)", "CC-BY-2.0"),
        ("CC BY-SA 2.5", "CC-BY-SA-2.5"),
        ("CC BY-SA 3.0 at", "CC-BY-SA-3.0-AT"),
        ("CC BY\u2011SA\u00a04.0", "CC-BY-SA-4.0"),
        ("cc by nc nd 4", "CC-BY-NC-ND-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International", "CC-BY-NC-ND-4.0"),
        ("Creative Commons Attribution-Share Alike 3.0 Unported license", "CC-BY-SA-3.0"),
        ("CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)", "CC-BY-4.0"),
        ("CC0", "CC0-1.0"),
        ("CC0 1.0 (repo licence)", "CC0-1.0"),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "CC0-1.0"),
        ("“Sea” by Jane Doe is licensed under CC BY 4.0", "CC-BY-4.0"),
        ("© 2020 Jane Doe. CC BY 4.0", "CC-BY-4.0"),
        ("Unsplash", "LicenseRef-Unsplash"),
        ("Pexels licence", "LicenseRef-Pexels"),
        ("MIT (repo licence)", "MIT"),
        ("free art license", "LicenseRef-Free-Art"),
        ("All rights reserved", RESERVED),
        ("© 2020 Jane", RESERVED),
        ("(c) Jane Doe", RESERVED),
    ],
)
def test_known_licences_are_read_to_their_ids(raw: str, identifier: str) -> None:
    licence = normalise(raw)
    assert licence.id == identifier
    assert licence.raw == raw
    assert licence.name


@pytest.mark.parametrize(
    "raw",
    [
        *("", "  ", "NOASSERTION", "NONE", "none", "unknown", "n/a", "nan", "-", "?", "LicenseRef-Unknown"),
        *("see source", "Attribution", "Creative Commons", "http://[bad"),
        "http://rightsstatements.org/vocab/CNE/1.0/",
    ],
)
def test_what_states_no_licence_is_unknown(raw: str) -> None:
    assert normalise(raw).id == ""
    assert normalise(raw).family is LicenceFamily.UNKNOWN


@pytest.mark.parametrize(
    "raw",
    [
        "not public domain",
        "non-public domain",
        "no CC0",
        "isn't CC0",
        "never CC BY 4.0",
        "CC0?",
        "!CC0",
        "public domain (probably)",
        "Public domain (US)",
        "Public domain in the United States",
        "Public domain (from 2030)",
        "PD-US",
        "CC0 (metadata only)",
        "CC0 except logo",
        "CC0 / custom terms",
        "CC0 https://example.com/terms",
        "CC BY 4.0 (non-commercial)",
        "CC BY 4.0 (book licence; image credited without a licence of its own)",
        "The text is licensed under CC BY 4.0",
        "CC BY 4.0+",
        "CC BY 5.0",
        "CC0 2.0",
        "CC BY-ND-SA 4.0",
        "c\u200bc0 no\u200bt CC0",
        "nicht gemeinfrei",
        "https://creativecommons.org.example.com/licenses/by/4.0/",
        "https://example.com/?u=https://creativecommons.org/publicdomain/zero/1.0/",
        "https://user@creativecommons.org/licenses/by/4.0/",
        "https://creativecommons.org/licenses/by/4.0/us/more",
        "https://example.com/CC0",
        "CC0 " + "and " * 500,
    ],
)
def test_doubtful_licences_are_never_cleared(raw: str) -> None:
    assert normalise(raw).id == ""
    assert not GENEROUS.clears(licensed(raw))


@pytest.mark.parametrize(
    ("raw", "identifier"),
    [
        ("Unsplash licence / CC0", "LicenseRef-Unsplash"),
        ("Unsplash (repo README: public domain)", "LicenseRef-Unsplash"),
        ("Public domain (NASA; ESA/Hubble items CC BY 4.0)", "CC-BY-4.0"),
        ("CC0-1.0 OR LicenseRef-Acme", "LicenseRef-Acme"),
        ("CC BY 4.0 / CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("CC BY-SA 2.5 / CC BY-SA 3.0", "LicenseRef-CC-BY-SA"),
        ("CC BY-NC 4.0 / CC BY-ND 4.0", ""),
        ("MIT AND CC-BY-4.0", ""),
        ("All rights reserved. CC0", RESERVED),
        ("© Jane, public domain", RESERVED),
    ],
)
def test_compound_licences_resolve_to_the_stricter_reading(raw: str, identifier: str) -> None:
    assert normalise(raw).id == identifier


@pytest.mark.parametrize("licence", VOCABULARY.values(), ids=lambda licence: licence.id)
def test_every_id_and_name_of_the_vocabulary_reads_back_as_itself(licence) -> None:  # type: ignore[no-untyped-def]
    assert normalise(licence.id).id == licence.id
    assert normalise(licence.id.swapcase()).id == licence.id
    assert normalise(licence.name).id == licence.id


WORDS = st.sampled_from(
    "CC0 CC BY NC ND SA 4.0 1.0 public domain not no © (c) ( ) [ / , ; MIT GPL v3+ Unsplash all rights"
    " reserved LicenseRef- LicenseRef-x https://creativecommons.org/licenses/by/ 4.0/de only at de licensed"
    " under".split()
)


@given(
    st.one_of(st.text(), st.lists(WORDS, max_size=9).map(" ".join), st.lists(WORDS, max_size=9).map("".join))
)
def test_reading_never_raises_and_is_idempotent_on_ids(raw: str) -> None:
    licence = normalise(raw)
    assert licence.raw == raw
    assert normalise(licence.id).id == licence.id
    assert normalise(licence.id).family is licence.family or licence.id == ""


@given(st.lists(WORDS, max_size=6).map(" ".join))
def test_a_negation_in_front_never_leaves_a_cleared_licence(raw: str) -> None:
    assert not GENEROUS.clears(licensed(f"not {raw}"))


@given(st.lists(st.text(max_size=20), max_size=4))
def test_the_default_policy_clears_nothing(licences: list[str]) -> None:
    assert not Policy().clears(licensed(*licences, "CC0-1.0"))


def test_family_glob_and_id_clear_what_they_name_and_no_more() -> None:
    policy = Policy.from_flags(["Public Domain", "CC-BY-*"])
    for licence in ("CC0", "Public Domain Mark", "public domain", "CC BY 2.0", "CC BY 3.0 fr", "CC BY"):
        assert policy.clears(licensed(licence)), licence
    for licence in (
        "CC BY-SA 4.0",
        "CC BY-NC 4.0",
        "CC BY-ND 4.0",
        "MIT",
        "Unsplash",
        "",
        "LicenseRef-CC-BY-x",
    ):
        assert not policy.clears(licensed(licence)), licence
    exact = Policy.from_flags(["CC0-1.0, cc by 4.0"])
    assert exact.clears(licensed("CC BY 4.0"))
    assert not exact.clears(licensed("CC BY 3.0"))
    assert not exact.clears(licensed("public domain"))


def test_own_licence_refs_match_by_id_or_by_a_pattern_with_a_name() -> None:
    policy = Policy.from_flags(["LicenseRef-Acme-*", "LicenseRef-One"])
    assert policy.clears(licensed("LicenseRef-acme-2024"))
    assert policy.clears(licensed("licenseref-one"))
    assert not policy.clears(licensed("LicenseRef-Acmeville"))
    assert not policy.clears(licensed("LicenseRef-One-More"))
    assert not policy.clears(licensed(RESERVED))


@pytest.mark.parametrize(
    ("licences", "cleared"),
    [
        (("CC0", "CC BY 4.0"), True),
        (("CC0", ""), True),
        (("CC0", "NOASSERTION"), True),
        (("CC0", "All rights reserved"), False),
        (("CC0", "ask the studio"), False),
        (("CC0", "none"), False),
        (("CC0", "http://rightsstatements.org/vocab/CNE/1.0/"), False),
        (("", ""), False),
        ((), False),
    ],
)
def test_occurrences_that_contradict_keep_a_reference_from_clearing(
    licences: tuple[str, ...], cleared: bool
) -> None:
    assert Policy.from_flags(["public-domain", "CC-BY-4.0"]).clears(licensed(*licences)) is cleared


def test_a_notice_in_the_file_contradicts_the_list() -> None:
    notice = {"copyright_notice": "© Jane Doe. All Rights Reserved."}
    policy = Policy.from_flags(["CC0-1.0"])
    assert not policy.clears(reference(Occurrence("a.jpg", licence="CC0", extra=notice)))
    assert not policy.clears(reference(Occurrence("a.jpg", licence="CC0"), Occurrence("b.jpg", extra=notice)))
    assert policy.clears(
        reference(Occurrence("a.jpg", licence="CC0", extra={"copyright_notice": "© Museum"}))
    )


def test_an_artist_who_licensed_to_you_clears_their_works_whatever_is_recorded() -> None:
    policy = Policy.from_flags(["artist:Doe,  Jane"])
    own = Occurrence("a.jpg", artist="doe, jane ", licence="All rights reserved")
    assert policy.clears(reference(own))
    assert policy.clears(reference(own, Occurrence("b.jpg")))
    assert not policy.clears(reference(own, Occurrence("b.jpg", artist="Someone Else")))
    assert not policy.clears(
        reference(Occurrence("a.jpg", artist="Jane Doering", licence="All rights reserved"))
    )
    assert not policy.clears(reference(Occurrence("a.jpg")))


@pytest.mark.parametrize(
    ("source", "cleared"),
    [
        ("https://example.com/jane/1.jpg", True),
        ("http://www.EXAMPLE.com/jane", True),
        ("example.com/jane/2.jpg", True),
        ("https://example.com/jane?page=2", True),
        ("https://example.com/janet/1.jpg", False),
        ("https://example.com/Jane/1.jpg", False),
        ("https://sub.example.com/jane/1.jpg", False),
        ("https://example.com.evil.org/jane/1.jpg", False),
        ("https://example.com@evil.org/jane/1.jpg", False),
        ("https://evil.org\\@example.com/jane/1.jpg", False),
        ("https://example.com/jane/%2e%2e/bob/1.jpg", False),
        ("https://evil.org/?example.com/jane/", False),
        ("", False),
    ],
)
def test_a_source_clears_its_domain_and_prefix_only(source: str, cleared: bool) -> None:
    policy = Policy.from_flags(["source:https://example.com/jane/"])
    assert policy.clears(reference(Occurrence("a.jpg", source=source))) is cleared


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        ("CC-BY-5.0", "did you mean CC-BY-"),
        ("publik-domain", "did you mean public-domain"),
        ("*", "is no pattern"),
        ("CC-*", "is no pattern"),
        ("LicenseRef-*", "is no pattern"),
        ("CC BY", "states no version; give CC-BY-4.0, or CC-BY-*"),
        ("all rights reserved", "grants nothing.*artist:NAME"),
        ("NOASSERTION", "names no known licence"),
        ("artist: ", "names no artist"),
        ("source:https://a@b/", "names no source"),
    ],
)
def test_a_flag_that_means_nothing_says_what_to_write(value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Policy.from_flags([value])


def test_policies_that_say_the_same_are_equal() -> None:
    assert Policy(frozenset({"cc by 4.0", "Artist: JANE  DOE"})) == Policy.from_flags(
        ["CC-BY-4.0", "artist:jane doe"]
    )
    again = Policy.from_flags(
        ["CC-BY-*", "public domain", "source:https://www.Example.com/a/", "LicenseRef-A-*"]
    )
    assert Policy(again.allow) == again


def test_a_policy_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        'format_version = 1\nallow = ["public-domain", "CC-BY-*"]\nartists = ["Doe, Jane"]\n'
        'sources = ["example.com/jane"]\n',
        encoding="utf-8",
    )
    flags = ["public-domain", "CC-BY-*", "artist:Doe, Jane", "source:example.com/jane"]
    assert Policy.from_file(path) == Policy.from_flags(flags)
    path.write_text("", encoding="utf-8")
    assert Policy.from_file(str(path)) == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alow = []", "unknown key 'alow' \\(did you mean allow\\?\\); known: format_version, allow"),
        ('allow = "CC0-1.0"', "write a list of strings"),
        ("allow = [1]", "write a list of strings"),
        ('allow = ["CC-BI-4.0"]', "policy.toml: 'CC-BI-4.0' names no known licence"),
        ("format_version = 2", "has format_version 2; this version reads 1"),
        ("format_version = true", "has format_version True"),
        ("allow = [", "is not TOML"),
        ("allow = ['\xff']".encode("latin-1"), "is not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_policy_file_that_cannot_be_used_names_file_and_remedy(
    tmp_path: Path, text: str | bytes | None, message: str
) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as raised:
        Policy.from_file(path)
    assert "policy.toml" in str(raised.value)


def test_judging_clears_matches_and_lowers_the_verdict() -> None:
    matches = tuple(
        Match(level=level, score=level / 5, evidence=Evidence(), reference=licensed(licence))
        for level, licence in ((5, "CC0"), (2, "All rights reserved"))
    )
    report = ImageReport("q.png", Verdict.REPLICA, level=5, score=1.0, matches=matches)
    judged = judge(report, Policy.from_flags(["public-domain"]))
    assert [m.cleared for m in judged.matches] == [True, False]
    assert (judged.verdict, judged.level) == (Verdict.POSSIBLE, 2)
    assert judge(judged, Policy()) == report


def work(licence: str) -> Occurrence:
    return Occurrence(
        "a.jpg", artist="Jane Doe", title="Sea", licence=licence, source="https://example.com/sea"
    )


def test_a_credit_line_names_title_author_licence_and_source() -> None:
    assert credit_line(work("cc by 4.0")) == (
        "“Sea” by Jane Doe, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), https://example.com/sea"
    )
    assert credit_line(Occurrence("a.jpg")) == "Untitled, artist not recorded, licence not recorded"
    assert credit_line(Occurrence("a.jpg", artist="A\n\x1bB\u202e", licence="by\tfax")) == (
        "Untitled by A B, licence as recorded: “by fax”"
    )


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (
            "CC BY 4.0",
            "CC BY 4.0 asks for credit, a link to the licence and a note of any changes: “Sea” by Jane",
        ),
        ("CC BY-SA 4.0", "; it asks for the same licence on changed versions: “Sea”"),
        (
            "CC BY-NC-ND 4.0",
            "; it does not cover commercial use and does not cover sharing changed versions: “Sea”",
        ),
        (
            "CC0",
            "Recorded as CC0 1.0, which asks for no permission and no credit; a credit is welcome: “Sea”",
        ),
        ("public domain", "Recorded as public domain, which asks for no permission"),
        (
            "Unsplash",
            "The Unsplash licence sets limits at https://unsplash.com/license but asks for no credit",
        ),
        ("MIT", "MIT asks that its notice and the credit stay with every copy: “Sea”"),
        ("GPL-3.0", "GPL-3.0-only asks for its notice, and for the same licence on changed versions: “Sea”"),
        ("LicenseRef-Acme", "LicenseRef-Acme has terms of its own: read them"),
        ("no known copyright restrictions", "which has limits: read them at https://"),
        ("All rights reserved", "All rights are reserved: ask the rights holder before use."),
        ("© Jane", "All rights are reserved: ask the rights holder before use."),
        (
            "http://rightsstatements.org/vocab/InC/1.0/",
            "All rights are reserved (In Copyright): ask the rights",
        ),
        (
            "http://rightsstatements.org/vocab/UND/1.0/",
            "Copyright Undetermined (rightsstatements.org), gives no",
        ),
        ("", "No licence is recorded: ask the rights holder before use."),
        ("by fax", "The recorded licence, “by fax”, gives no clear terms: ask the rights holder before use."),
    ],
)
def test_a_sentence_says_what_the_licence_asks(licence: str, expected: str) -> None:
    assert expected in licence_sentence(reference(work(licence)))


def test_a_sentence_says_when_occurrences_disagree() -> None:
    sentence = licence_sentence(licensed("CC0", "by fax", ""))
    assert sentence.startswith("Different licences are recorded (CC0 1.0; “by fax”): ask the rights holder")


def test_a_sentence_credits_the_occurrence_that_records_most() -> None:
    assert "“Sea” by Jane" in licence_sentence(
        reference(Occurrence("b.jpg", licence="cc-by-4.0"), work("CC BY 4.0"))
    )


@pytest.mark.parametrize("licence", [*VOCABULARY, "", "by fax", "© Jane"])
def test_sentences_pass_no_legal_verdict(licence: str) -> None:
    sentence = licence_sentence(licensed(licence))
    assert not re.search(r"\b(original|safe|infring\w*|legally|illegal\w*)\b", sentence, re.I)
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("key", "value", "signal", "words"),
    [
        (
            "opt_out:plus",
            "DMI-PROHIBITED-AIMLTRAINING",
            OptOutSignal.PLUS,
            "not for training AI or machine-lea",
        ),
        (
            "plus:DataMining",
            "DMI-PROHIBITED-GENAIMLTRAINING",
            OptOutSignal.PLUS,
            "training generative AI models",
        ),
        (
            "opt_out:plus",
            "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED",
            OptOutSignal.PLUS,
            "not for data mining.",
        ),
        (
            "data_mining",
            "Prohibited except search engine indexing",
            OptOutSignal.PLUS,
            "other than indexing by",
        ),
        ("data_mining", "DMI-PROHIBITED-SEECONSTRAINT", OptOutSignal.PLUS, "under the terms it points to"),
        ("data_mining", "no", OptOutSignal.PLUS, "not for data mining."),
        ("data_mining", "DMI-NOVEL", OptOutSignal.PLUS, "not known here: “DMI-NOVEL”"),
        (
            "opt_out:c2pa",
            "cawg.ai_training=notAllowed",
            OptOutSignal.C2PA,
            "do not allow training AI models other",
        ),
        (
            "c2pa.training-mining",
            '{"entries":{"c2pa.ai_generative_training":{"use":"notAllowed"},"c2pa.data_mining":{"use":"constrained"}}}',
            OptOutSignal.C2PA,
            "do not allow training generative AI models and allow only under conditions data mining.",
        ),
        ("opt_out:c2pa", "notAllowed", OptOutSignal.C2PA, "do not allow data mining"),
        ("opt_out:c2pa", "something", OptOutSignal.C2PA, "not known here: “something”"),
        ("opt_out:noai", "noai, noimageai", OptOutSignal.NOAI, "says “noai”"),
        ("noai", "1", OptOutSignal.NOAI, "says “noai”"),
        ("X-Robots-Tag", "noindex, NoImageAI", OptOutSignal.NOAI, "says “noai”"),
        ("tdm-reservation", "1", OptOutSignal.TDM, "reserves the rights of text and data mining"),
    ],
)
def test_opt_outs_are_read_and_said_in_plain_words(
    key: str, value: str, signal: OptOutSignal, words: str
) -> None:
    (found,) = opt_outs(Occurrence("a.jpg", extra={key: value}))
    assert (found.signal, found.key, found.value) == (signal, key, value)
    assert words in found.sentence
    assert found.to_dict()["signal"] == signal.value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plus:DataMining", "DMI-ALLOWED"),
        ("plus:DataMining", "http://ns.useplus.org/ldf/vocab/DMI-UNSPECIFIED"),
        ("data_mining", ""),
        ("opt_out:c2pa", "c2pa.ai_training=allowed"),
        ("noai", "false"),
        ("noai", ""),
        ("X-Robots-Tag", "noindex, nofollow"),
        ("tdm-reservation", "0"),
        ("caption", "noai"),
    ],
)
def test_a_permission_or_another_column_is_no_opt_out(key: str, value: str) -> None:
    assert opt_outs(Occurrence("a.jpg", extra={key: value})) == ()


def test_the_same_opt_out_under_two_keys_is_said_once() -> None:
    extra = {"opt_out:plus": "DMI-PROHIBITED", "plus:DataMining": "DMI-PROHIBITED", "noai": "true"}
    assert [o.signal for o in opt_outs(Occurrence("a.jpg", extra=extra))] == [
        OptOutSignal.PLUS,
        OptOutSignal.NOAI,
    ]


@given(st.dictionaries(st.sampled_from(["noai", "opt_out:plus", "opt_out:c2pa", "robots"]), st.text()))
def test_reading_opt_outs_never_raises(extra: dict[str, str]) -> None:
    for found in opt_outs(Occurrence("a.jpg", extra=extra)):
        assert found.sentence.endswith(".")


@pytest.mark.parametrize("text", ["allow = " + "[" * 3_000, "allow = 1" + "0" * 5_000, "allow = 9999-99-99"])
def test_depth_and_digits_without_end_are_no_policy(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(UsageError, match="is not TOML"):
        Policy.from_file(tmp_path / "policy.toml")
