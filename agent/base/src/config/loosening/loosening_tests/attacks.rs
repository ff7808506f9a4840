//! Tests values that make a looser configuration look harmless. Each of them is refused, or told so
//! that nobody can misread it.

use Outcome::{Refused, Told};
use countersign_core::legible::is_unseen;

use crate::config::loosening::loosening_tests::*;

/// The outcome of such a value.
enum Outcome {
    /// The configuration is refused, and the error says this.
    Refused(&'static str),
    /// The sentences about it contain these texts.
    Told(&'static [&'static str]),
}

/// A destination beside that of `BASE`, by label, network, address and memo.
fn destination(label: &str, network: &str, address: &str, memo: &str) -> String {
    format!(
        "[[destination]]\nlabel = \"{label}\"\nasset = \"BTC\"\nnetwork = \"{network}\"\naddress = \
         \"{address}\"\n{memo}[transfer.BTC]"
    )
}

fn labelled(label: &str) -> String {
    destination(label, "BTC", "3other", "")
}

fn attacked(from: &str, to: &str) -> Result<Vec<String>, String> {
    let facts = SystemFacts { own_uid: 4000, ..SystemFacts::of_this_process() };
    assert!(BASE.contains(from), "{from}");
    let changed = parse(BASE.replacen(from, to, 1), Path::new("/etc/agent.toml"), &facts);
    changed
        .map(|config| loosened(&super::config(BASE), &config, &in_use()))
        .map_err(|error| error.to_string())
}

/// Checks that no unseen character is in a sentence, and that characters outside ASCII are spelled.
fn check_legible(sentence: &str) {
    assert!(!sentence.chars().any(is_unseen), "{sentence:?}");
    assert!(sentence.is_ascii() || sentence.contains("(spelled \""), "{sentence}");
}

fn check(cases: &[(&str, String, Outcome)]) {
    for (from, to, outcome) in cases {
        match (attacked(from, to), outcome) {
            (Err(error), Refused(said)) => {
                assert!(error.contains(said), "{to:?}: {error}");
                assert!(!error.replace('\n', "").chars().any(char::is_control), "{error:?}");
            }
            (Ok(told), Told(values)) => {
                told.iter().for_each(|sentence| check_legible(sentence));
                for value in *values {
                    assert!(
                        told.iter().any(|sentence| sentence.contains(value)),
                        "{value}: {told:#?}"
                    );
                }
            }
            (Ok(told), Refused(_)) => panic!("{to:?} is taken: {told:#?}"),
            (Err(error), Told(_)) => panic!("{to:?}: {error}"),
        }
    }
}

const CONTROLS: Outcome = Refused("it has control characters");
const NO_WORD: Outcome = Refused("expected one word of printable ASCII");
const NO_NAME: Outcome = Refused("expected a plain name");

#[test]
fn labels_of_destinations() {
    let place = "[transfer.BTC]";
    let long = labelled(&format!("{}[agent] nothing is loosened", "cold ".repeat(300)));
    check(&[
        (
            place,
            labelled("c\u{43e}ld"),
            Told(&["LOOK TWICE, \"c\u{43e}ld\" (spelled \"c\\u{43e}ld\") looks like \"cold\""]),
        ),
        (place, labelled("c\u{3bf}ld"), Told(&["(spelled \"c\\u{3bf}ld\") looks like \"cold\""])),
        (place, labelled("\u{ff43}old"), Told(&["(spelled \"\\u{ff43}old\") looks like \"cold\""])),
        (
            place,
            labelled("co\u{200b}ld"),
            Told(&[
                "\"co\\u{200b}ld\"",
                "differs only in blanks or unseen characters from \"cold\"",
            ]),
        ),
        (place, labelled("co\u{202e}ld"), Told(&["\"co\\u{202e}ld\"", "characters from \"cold\""])),
        (
            place,
            labelled("\u{2066}cold\u{2069}"),
            Told(&["\"\\u{2066}cold\\u{2069}\"", "characters from \"cold\""]),
        ),
        (place, labelled("cold\u{301}"), Told(&["\"cold\\u{301}\"", "characters from \"cold\""])),
        (
            place,
            labelled("cold\u{1d159}"),
            Told(&["\"cold\\u{1d159}\"", "characters from \"cold\""]),
        ),
        (place, labelled("cold "), Told(&["\"cold\\u{20}\"", "characters from \"cold\""])),
        (place, labelled("cold\u{a0}"), Told(&["\"cold\\u{a0}\"", "characters from \"cold\""])),
        (place, labelled("COLD"), Told(&["LOOK TWICE, \"COLD\" looks like \"cold\""])),
        (place, labelled("co1d"), Told(&["LOOK TWICE, \"co1d\" looks like \"cold\""])),
        (place, labelled("c\\u006Fld"), Refused("an earlier one has this place or label")),
        (place, labelled("cold\\n[agent] nothing"), CONTROLS),
        (place, labelled("cold\\u001B[2J"), CONTROLS),
        (place, labelled("cold\\u009B2J"), CONTROLS),
        (place, labelled("cold\\r"), CONTROLS),
        (place, labelled("\\u3000"), Refused("it is empty")),
        (
            place,
            labelled("cold\\\" is new: asset BTC, address \\\"bc1q old"),
            Told(&[
                "[[destination]] \"cold\\\" is new: asset BTC, address \\\"bc1q old\" is new: \
                 asset BTC, network BTC, address \"3oth er\"",
            ]),
        ),
        (place, labelled("a\\\\u{20}b"), Told(&["[[destination]] \"a\\\\u{20}b\" is new"])),
        (
            place,
            labelled("x\\\" (spelled \\\"cold"),
            Told(&["[[destination]] \"x\\\" (spelled \\\"cold\" is new"]),
        ),
        (
            place,
            long,
            Told(&[
                "[agent] nothing is loosened\" is new: asset BTC, network BTC, address \"3oth er\"",
            ]),
        ),
        // The same label, another place.
        (
            "bc1qold",
            "bc1qo1d".to_owned(),
            Told(&[
                "[[destination]] \"cold\" is another place: asset BTC, network BTC, address from \
                 \"bc1q old\" to \"bc1q o1d\"",
            ]),
        ),
        ("bc1qold", "bc1qOld".to_owned(), Told(&["address from \"bc1q old\" to \"bc1q Old\""])),
        (
            "label = \"cold\"",
            "label = \"c\u{43e}ld\"".to_owned(),
            Told(&[
                "(spelled \"c\\u{43e}ld\") is the place that was called \"cold\"",
                "looks like \"cold\"",
            ]),
        ),
    ]);
}

/// Ideographs and kana that are drawn alike, and one letter in two forms.
#[test]
fn labels_in_letters_of_east_asia_and_in_two_normal_forms() {
    let called = |before: &str, after: &str| {
        let text = BASE.replacen("label = \"cold\"", &format!("label = \"{before}\""), 1);
        let changed = text.replacen("[transfer.BTC]", &labelled(after), 1);
        loosened(&config(&text), &config(&changed), &in_use())
    };
    for (before, after) in [
        ("caf\u{e9}", "cafe\u{301}"),
        ("\u{ac00}", "\u{1100}\u{1161}"),
        ("\u{8c48}", "\u{f900}"),
        ("\u{4e00}", "\u{2f00}"),
        ("\u{4e8c}", "\u{30cb}"),
        ("\u{3078}", "\u{30d8}"),
        ("\u{51b7}\u{4e00}", "\u{51b7}\u{30fc}"),
        ("\u{51b7}", "\u{51b7}\u{fe00}"),
    ] {
        let told = called(before, after);
        told.iter().for_each(|sentence| check_legible(sentence));
        assert!(
            told.iter().any(|sentence| sentence.contains("LOOK TWICE")),
            "{before} {after}: {told:?}"
        );
    }
    assert_eq!(called("\u{51b7}", "\u{6696}").len(), 1, "they tell themselves apart");
}

#[test]
fn networks_addresses_and_memos() {
    let place = "[transfer.BTC]";
    let memo = |memo: &str| destination("x", "BTC", "3other", &format!("memo = \"{memo}\"\n"));
    let long = "bc1qaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaold9";
    check(&[
        (place, destination("x", "B\u{422}C", "3other", ""), NO_WORD),
        (place, destination("x", "BTC ", "3other", ""), NO_WORD),
        (place, destination("x", "btc", "3other", ""), Told(&["network btc, address \"3oth er\""])),
        (
            place,
            destination("x", "from", "3other", ""),
            Told(&["asset BTC, network from, address \"3oth er\""]),
        ),
        (
            place,
            destination("x", "BTC,memo", "3other", ""),
            Told(&["network \"BTC,memo\", address"]),
        ),
        (place, destination("x", "BTC", "bc1qold ", ""), NO_WORD),
        (place, destination("x", "BTC", "bc1q\u{43e}ld", ""), NO_WORD),
        (place, destination("x", "BTC", "bc1q\u{200b}old", ""), NO_WORD),
        (place, destination("x", "BTC", "bc1q\\nold", ""), CONTROLS),
        (
            place,
            destination("x", "BTC", "a\\\",memo\\\"7", ""),
            Told(&["address \"a\\\",m emo\\\" 7\", memo none"]),
        ),
        // One letter, also near an end; case alone; one letter more.
        (
            place,
            destination("x", "BTC", "bc1qolb", ""),
            Told(&["LOOK TWICE, address \"bc1q olb\" differs only in letter 7 from \"bc1q old\""]),
        ),
        (
            place,
            destination("x", "BTC", "bc1qOLd", ""),
            Told(&[
                "LOOK TWICE, address \"bc1q OLd\" differs only in letters 5, 6 from \"bc1q old\"",
            ]),
        ),
        (
            place,
            destination("x", "BTC", "bc1qoldd", ""),
            Told(&["LOOK TWICE, address \"bc1q oldd\" differs only in letter 8 from \"bc1q old\""]),
        ),
        (
            place,
            destination("x", "BTC", "b1qold", ""),
            Told(&["LOOK TWICE, address \"b1qo ld\" differs only in letter 2 from \"bc1q old\""]),
        ),
        (
            place,
            destination("x", "BTC", "BC1QOLD", ""),
            Told(&["LOOK TWICE, address \"BC1Q OLD\" looks like \"bc1q old\""]),
        ),
        ("bc1qold", long.to_owned(), Told(&["address from \"bc1q old\" to \"bc1q aaaa aaaa"])),
        (place, memo("7 "), NO_WORD),
        (place, memo("\u{661}"), NO_WORD),
        (place, memo("7\\n"), CONTROLS),
        (place, memo("none"), Told(&["address \"3oth er\", memo \"none\""])),
        (place, memo("O1"), Told(&["memo \"O1\""])),
        (
            place,
            destination("x", "BTC", "bc1qold", "memo = \"7\"\n"),
            Told(&[
                "[[destination]] \"x\": LOOK TWICE, \"cold\" is the same address with memo none",
            ]),
        ),
    ]);
}

#[test]
fn addresses_that_differ_in_the_middle() {
    let long = |middle: &str| {
        format!("bc1q{}{middle}{}old9", "a".repeat(16), "a".repeat(18 - middle.len()))
    };
    let text = BASE.replacen("bc1qold", &long(""), 1);
    for (address, warning) in [
        (long("b"), "differs only in letter 21 from"),
        (long("bb"), "differs only in letters 21, 22 from"),
        (long("bbbbb"), "begins and ends like"),
        (long("bbbbb").to_ascii_uppercase(), "begins and ends like"),
        (long("").replace("old9", "old8"), "differs only in letter 42 from"),
        (long("").replace("bc1q", "bc1p"), "differs only in letter 4 from"),
        (format!("{}9", long("")), "differs only in letter 43 from"),
        (long("").replace("old", "od"), "differs only in letter 40 from"),
    ] {
        let changed = text.replacen("[transfer.BTC]", &destination("x", "BTC", &address, ""), 1);
        let told = loosened(&config(&text), &config(&changed), &in_use());
        let title = "[[destination]] \"x\": LOOK TWICE, address \"";
        assert!(
            told.iter().any(|one| one.starts_with(title) && one.contains(warning)),
            "{address}: {told:#?}"
        );
    }
    let other = text.replacen(
        "[transfer.BTC]",
        &destination("x", "BTC", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", ""),
        1,
    );
    assert_eq!(
        loosened(&config(&text), &config(&other), &in_use()).len(),
        1,
        "it tells itself apart"
    );
}

#[test]
fn names_of_clients_keys_tokens_and_approvers() {
    let approver = |name: &str, person: &str| {
        format!("[approver.{name}]\nssh_key = \"{SPARE}\"\n{person}[transfer.BTC]")
    };
    let client = |name: &str, keys: &str| {
        format!(
            "[client.{name}]\nuser = 4009\nkeys = [{keys}]\nscopes = [\"read\"]\nrate = \
             \"1/s\"\n[transfer.BTC]"
        )
    };
    let place = "[transfer.BTC]";
    check(&[
        (place, client("\"b\u{43e}t\"", "\"k\""), NO_NAME),
        (place, client("\"bot\\n\"", "\"k\""), NO_NAME),
        (place, client("\"bot \"", "\"k\""), NO_NAME),
        (place, client("\"bot\"", "\"k\""), Refused("expected each name once")),
        (
            place,
            client("Bot", "\"k\""),
            Told(&["[client.Bot]: LOOK TWICE, \"Bot\" looks like \
                                                \"bot\""]),
        ),
        (place, client("b0t", "\"k\""), Told(&["LOOK TWICE, \"b0t\" looks like \"bot\""])),
        (place, client("x", "\"none\""), Told(&["[client.x] keys: \"none\""])),
        (place, client("x", "\"K\""), Refused("this cannot be one")),
        (
            place,
            client("x", "\"1\""),
            Told(&["[client.x] keys: 1", "[client.x] keys: LOOK TWICE, \"1\" looks like \"l\""]),
        ),
        (
            "[\"k\", \"l\"]",
            "[\"k\", \"l\", \"1\"]".to_owned(),
            Told(&[
                "[client.bot] keys: also \
                    1",
                "[client.bot] keys: LOOK TWICE, \"1\" looks like \"l\"",
            ]),
        ),
        ("[\"k\", \"l\"]", "[\"k\", \"\u{43b}\"]".to_owned(), Refused("this cannot be one")),
        (place, approver("\"\u{430}lice\"", ""), NO_NAME),
        (place, approver("alice", ""), Refused("expected each name once")),
        (
            place,
            approver("Alice", ""),
            Told(&[
                "[approver.Alice]: LOOK TWICE, \"Alice\" looks like \
                    \"alice\"",
                "[approver.Alice] key: SHA256:",
            ]),
        ),
        (place, approver("a1ice", ""), Told(&["LOOK TWICE, \"a1ice\" looks like \"alice\""])),
        (
            place,
            approver("carol", "person = \"a1ice\"\n"),
            Told(&[
                "[approver.carol] person: a1ice",
                "[approver.carol] person: LOOK TWICE, \"a1ice\" looks like \"alice\"",
            ]),
        ),
        (
            place,
            approver("carol", "person = \"\u{430}lice\"\n"),
            Refused(
                "expected the name of a \
            person",
            ),
        ),
        (
            place,
            "[approver.carol]\nattestation = \"/x: SHA256:AAAA, YubiKey 7, attested by \
             Yubic\u{43e}\"\n[transfer.BTC]"
                .to_owned(),
            Told(&[
                "[approver.carol] key: cannot approve: \"/x: SHA256:AAAA, YubiKey 7, attested by \
                 Yubic\u{43e}\" (spelled \"/x: SHA256:AAAA, YubiKey 7, attested by \
                 Yubic\\u{43e}\"): \"",
            ]),
        ),
        ("[token.hsm]", "[token.\"hsm \"]".to_owned(), NO_NAME),
        ("label = \"hsm\"", "label = \"hsm \"".to_owned(), Refused("it ends with a blank")),
        (
            "label = \"hsm\"",
            "label = \"hs\u{43c}\"".to_owned(),
            Told(&["label: from \"hsm\" to \"hs\u{43c}\" (spelled \"hs\\u{43c}\")"]),
        ),
        (
            "label = \"hsm\"",
            "label = \"hsm\"\nmodule = \"/usr/lib/\u{441}.so\"".to_owned(),
            Told(&["module: from none to \"/usr/lib/\u{441}.so\" (spelled \
                    \"/usr/lib/\\u{441}.so\")"]),
        ),
    ]);
}

#[test]
fn symbols_assets_and_amounts() {
    let transfer = |asset: &str| format!("[transfer.\"{asset}\"]\nper_day = \"1\"\n[transfer.BTC]");
    check(&[
        (
            "\"ETHUSDT\"]",
            "\"ETHUSD\u{422}\"]".to_owned(),
            Told(&["symbols: also \"ETHUSD\u{422}\" (spelled \"ETHUSD\\u{422}\")"]),
        ),
        (
            "\"ETHUSDT\"]",
            "\"ETHUSDT\", \"any\"]".to_owned(),
            Told(&["[client.bot] symbols: also \"any\""]),
        ),
        (
            "\"ETHUSDT\"]",
            "\"ETH\u{200b}USDT\"]".to_owned(),
            Refused("expected the name of an asset or a symbol"),
        ),
        (
            "\"ETHUSDT\"]",
            "\"ETHUSDT \"]".to_owned(),
            Refused("expected the name of an asset or a symbol"),
        ),
        (
            "\"ETHUSDT\"]",
            "\"ETHUSDT\u{3164}\"]".to_owned(),
            Told(&["symbols: also \"ETHUSDT\\u{3164}\""]),
        ),
        (
            "[transfer.BTC]",
            transfer("B\u{422}C"),
            Told(&[
                "[transfer.\"B\u{422}C\" (spelled \"B\\u{422}C\")] is new",
                "LOOK TWICE",
                "looks like \"BTC\"",
            ]),
        ),
        (
            "[transfer.BTC]",
            transfer("btc"),
            Told(&[
                "[transfer.btc] per_day: 1",
                "[transfer.btc]: LOOK TWICE, \"btc\" looks like \"BTC\"",
            ]),
        ),
        (
            "[transfer.BTC]",
            transfer("BTC] per_day: 0 [x"),
            Refused("expected the name of an asset"),
        ),
        ("[transfer.BTC]", transfer("BTC]x"), Told(&["[transfer.\"BTC]x\"] is new"])),
        (
            "asset = \"BTC\"",
            "asset = \"B\u{422}C\"".to_owned(),
            Told(&["asset from BTC to \"B\u{422}C\" (spelled \"B\\u{422}C\")"]),
        ),
        ("per_day = \"2\"", "per_day = \"\u{662}\"".to_owned(), Refused("not a plain decimal")),
        ("per_day = \"2\"", "per_day = \"2 \"".to_owned(), Refused("not a plain decimal")),
        ("per_day = \"2\"", "per_day = \"02\"".to_owned(), Refused("not a plain decimal")),
        ("per_day = \"2\"", "per_day = \"2e9\"".to_owned(), Refused("not a plain decimal")),
        (
            "per_day = \"2\"",
            "per_day = \"20000000000000\"".to_owned(),
            Told(&["per_day: from 2 to 20000000000000"]),
        ),
    ]);
}

#[test]
fn what_a_profile_of_the_operators_own_says() {
    let own = BASE.replacen("profile = \"softhsm\"", "profile = \"/etc/own.toml\"", 1);
    let with = |profile: String| {
        let facts = SystemFacts {
            own_uid: 4000,
            profile_file: std::rc::Rc::new(move |_| Ok(profile.clone())),
            ..SystemFacts::of_this_process()
        };
        parse(own.clone(), Path::new("/etc/agent.toml"), &facts).expect("sound")
    };
    let text = include_str!("../../../../../../pkcs11-profiles/softhsm.toml");
    for (from, to) in
        [("libsofthsm2.so", "libs\u{43e}fthsm2.so"), ("libsofthsm2.so", "libsofthsm2.so\u{200b}")]
    {
        assert!(text.contains(from), "{from}");
        let told =
            loosened(&with(text.to_owned()), &with(text.replace(from, to)), &BTreeSet::new());
        assert!(
            told.iter().any(|sentence| sentence.contains("profile's libraries: from")),
            "{told:?}"
        );
        told.iter().for_each(|sentence| check_legible(sentence));
    }
}
