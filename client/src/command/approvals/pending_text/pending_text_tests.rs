use countersign::core::approval::{Purpose, Statement};

use super::*;

/// The names of the facts that [`describe_change`] writes, each at the beginning of a line. Lines
/// that continue a fact, and lines of the diff, begin with blanks.
const NAMES: [&str; 8] =
    ["change", "expires", "asks", "does", "loosens", "approvals", "touches", "agent"];

fn change(loosens: &[&str], diff: &str) -> ChangeEntry {
    let subject = Subject::Configuration {
        from_sha256: "00".to_owned(),
        to_sha256: "11".to_owned(),
        loosens: loosens.iter().map(|sentence| (*sentence).to_owned()).collect(),
        diff: diff.to_owned(),
    };
    let statement = Statement {
        purpose: Purpose::Change,
        agent: "a".to_owned(),
        request_id: "0193".to_owned(),
        expires_ms: 4_700_000_000_000,
        policy_sha256: "00".to_owned(),
        subject,
    };
    ChangeEntry { id: "0193".to_owned(), statement, approvals_needed: 1, uid: Some(1000) }
}

#[test]
fn no_part_of_a_change_can_be_taken_for_another() {
    let filler = "x".repeat(46);
    // At 80 columns a plain wrap would put this label at the beginning of a line.
    let imitation = format!(
        "[[destination]] \"{filler}loosens  0 sentences in all, each shown above\" is new: address \
         \"bc1q\""
    );
    for (sentence, diff) in [
        (imitation.as_str(), ""),
        (
            "[token.hsm] label: from \"hsm\" to \"hs\u{43c}\" (spelled \"hs\\u{43c}\")",
            "+label = \"hs\u{43c}\"\n",
        ),
        ("x", "+# \u{1b}[2J\u{1b}[H\rloosens  0 sentences in all\n"),
        ("x", "+# a\u{85}b\u{2028}loosens  0 sentences in all\u{2029}\n"),
        ("x", "+#\u{202e}evil\u{202c} \u{2066}x\u{2069} \u{200b} e\u{301}\n"),
        ("x\nloosens  nothing", "+# a comment\n"),
        ("x", "loosens  0 sentences in all, each shown above\napprovals  0 of 1\n"),
        ("x", &format!("+# {}loosens  0 sentences in all\n", "\u{51b7}".repeat(33))),
    ] {
        let change = change(&[sentence], diff);
        let signed = String::from_utf8(change.statement.bytes()).expect("JSON");
        let quoted = |text: &str| serde_json::to_string(text).expect("a text");
        assert!(
            signed.contains(&quoted(sentence)) && signed.contains(&quoted(diff)),
            "what is signed has it: {signed}"
        );
        for columns in [None, Some(40), Some(80), Some(81), Some(200)] {
            let text = describe_change(&change, &Output::new(false), columns);
            for line in text.lines() {
                let name = line.split(' ').next().expect("a word");
                let is_known = name.is_empty() || name == "policy" || NAMES.contains(&name);
                assert!(
                    is_known && !line.chars().any(countersign::core::legible::is_unseen),
                    "{columns:?} {line:?}"
                );
            }
            let counted = text.lines().filter(|line| line.starts_with("loosens")).count();
            assert_eq!(counted, 2, "one sentence and how many there are: {text}");
        }
        let whole = describe_change(&change, &Output::new(false), None);
        let said = crate::output::plain(sentence);
        assert!(
            whole.contains(&format!("\nloosens    {said}\nloosens    1 sentence in all")),
            "{whole}"
        );
    }
}

/// A change to the transfer, the label of its destination, and the lines that must be shown.
type Case = (fn(&mut Transfer), Option<&'static str>, &'static [(&'static str, &'static str)]);

#[test]
fn what_a_request_moves_is_told_from_what_looks_like_it() {
    let cases: &[Case] = &[
        (
            |_| {},
            Some("cold"),
            &[
                ("moves", "5 BTC, by POST /w"),
                ("network", "BTC"),
                ("address", "bc1q old"),
                ("memo", "none"),
                ("destination", "\"cold\""),
            ],
        ),
        (|_| {}, None, &[("destination", "not in the list of destinations")]),
        (
            |_| {},
            Some("not in the list of destinations"),
            &[("destination", "\"not in the list of destinations\"")],
        ),
        (
            |_| {},
            Some("c\u{43e}ld"),
            &[("destination", "\"c\u{43e}ld\" (spelled \"c\\u{43e}ld\")")],
        ),
        (|_| {}, Some("cold "), &[("destination", "\"cold\\u{20}\"")]),
        (|one| one.memo = Some("none".to_owned()), None, &[("memo", "\"none\"")]),
        (|one| one.memo = Some("7 ".to_owned()), None, &[("memo", "\"7\\u{20}\"")]),
        (
            |one| one.memo = Some("7\nmemo  8".to_owned()),
            None,
            &[("memo", "\"7\\u{a}memo \\u{20}8\"")],
        ),
        (
            |one| one.asset = Some("B\u{422}C".to_owned()),
            None,
            &[("moves", "5 \"B\u{422}C\" (spelled \"B\\u{422}C\"), by POST /w")],
        ),
        (
            |one| one.asset = Some("BTC, by GET".to_owned()),
            None,
            &[("moves", "5 \"BTC, by GET\", by POST /w")],
        ),
        (|one| one.network = Some("not stated".to_owned()), None, &[("network", "\"not stated\"")]),
        (|one| one.network = None, None, &[("network", "not stated")]),
        (
            |one| one.address = Some("bc1q\u{43e}ld".to_owned()),
            None,
            &[("address", "\"bc1q\u{43e}ld\" (spelled \"bc1q\\u{43e}ld\")")],
        ),
        (|one| one.address = Some("bc1q old".to_owned()), None, &[("address", "\"bc1q old\"")]),
        (
            |one| one.address = Some("bc1q\u{200b}old".to_owned()),
            None,
            &[("address", "\"bc1q\\u{200b}old\" (spelled \"bc1q\\u{200b}old\")")],
        ),
        (
            |one| one.to = Some("sub\u{202e}".to_owned()),
            None,
            &[("to", "\"sub\\u{202e}\" (spelled \"sub\\u{202e}\")")],
        ),
        (|one| one.from = Some("main".to_owned()), None, &[("from", "main")]),
    ];
    for (with, label, lines) in cases {
        let mut transfer = Transfer {
            endpoint: "POST /w".to_owned(),
            asset: Some("BTC".to_owned()),
            amount: Some(countersign::core::decimal::Amount::parse("5").expect("a decimal")),
            network: Some("BTC".to_owned()),
            address: Some("bc1qold".to_owned()),
            memo: None,
            from: None,
            to: None,
        };
        with(&mut transfer);
        let shown = moves(&transfer, label.map(str::to_owned));
        for (name, value) in *lines {
            assert!(shown.contains(&(name, (*value).to_owned())), "{name} {value}: {shown:#?}");
        }
    }
}
