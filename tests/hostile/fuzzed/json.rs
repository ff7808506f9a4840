//! JSON as the protocol takes it.

use countersign_core::json::Value;

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        super::requests().iter().map(|request| request.to_string().into_bytes()).collect();
    let more = [
        r#"{"b":1.0,"a":[1e-7,0.10,{"z":null,"y":true}],"c":"é/\n\u00e9\ud83d\ude00"}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"\u0061":2}"#,
        r#""\ud800""#,
        "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
    ];
    seeds.extend(more.iter().map(|text| text.as_bytes().to_vec()));
    seeds
}

/// Checks that a text that is taken means the same to another parser, has no name twice, and is
/// written with the same meaning.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = Value::parse(text) else { return };
    names_are_unique(&value, 0);
    let written = value.to_json();
    assert_eq!(Value::parse(&written).as_ref(), Ok(&value), "{text:?} became {written:?}");
    // A number beyond the range of floats is text to us, and an error to the other parser.
    if let Ok(other) = serde_json::from_str::<serde_json::Value>(text) {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("as before"), other);
    }
}

fn names_are_unique(value: &Value, depth: usize) {
    assert!(depth <= 16, "nested too deep");
    match value {
        Value::Array(items) => items.iter().for_each(|item| names_are_unique(item, depth + 1)),
        Value::Object(members) => {
            let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice: {names:?}");
            members.iter().for_each(|(_, value)| names_are_unique(value, depth + 1));
        }
        _ => {}
    }
}
