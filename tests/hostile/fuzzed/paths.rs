//! Methods and paths, looked up in every endpoint table. The input is `METHOD PATH`.

use countersign_core::exchange::ALL;
use countersign_core::request::{Method, Path};

pub fn seeds() -> Vec<Vec<u8>> {
    let rows = ALL.iter().flat_map(|exchange| exchange.table().endpoints().iter().step_by(40));
    let rows = rows.map(|row| format!("{} {}", row.method, row.path.replace(['{', '}'], "")));
    let bad = [
        "GET /a/../b",
        "GET /a//b",
        "GET /a%2fb",
        "get /a",
        "GET /a?b",
        "POST /a/",
        "DELETE /a;x/.",
    ];
    rows.chain(bad.map(str::to_owned)).map(String::into_bytes).collect()
}

/// Checks that a path that is taken has one spelling only, and that a row is found by that spelling
/// only.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((method, path)) = text.split_once(' ') else { return };
    if let Ok(method) = Method::parse(method) {
        assert_eq!(method.name(), &text[..text.len() - path.len() - 1]);
    }
    let Ok(parsed) = Path::parse(path) else { return };
    assert_eq!(parsed.as_str(), path);
    assert_eq!(normalised(path), path, "an exchange could read another path");
    for method in Method::ALL {
        rows_have_one_spelling(method, path);
    }
}

/// A path as a server may change it before the look-up.
fn normalised(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let path = path.split(['?', '#', ';']).next().unwrap_or_default().trim();
    assert!(!path.contains(['%', '\\', '+']));
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let joined = format!("/{}", kept.join("/"));
    if joined.len() > 1 { joined.replace("//", "/") } else { joined }
}

fn rows_have_one_spelling(method: Method, path: &str) {
    for exchange in ALL {
        let Some((index, row)) = exchange.table().find(method, path) else { continue };
        assert_eq!(row.method, method);
        let (wanted, found): (Vec<_>, Vec<_>) =
            (row.path.split('/').collect(), path.split('/').collect());
        assert_eq!(wanted.len(), found.len(), "{path} is not {}", row.path);
        let literal = |wanted: &str| !wanted.starts_with('{');
        assert!(
            wanted
                .iter()
                .zip(&found)
                .all(|(wanted, found)| !literal(wanted) && !found.is_empty() || wanted == found)
        );
        for other in [
            path.to_ascii_uppercase(),
            path.to_ascii_lowercase(),
            format!("{path}/"),
            format!("/{path}"),
        ] {
            // Another value of a placeholder is another request of the same row.
            let same = |(wanted, (found, other)): (&&str, (&&str, &str))| {
                !literal(wanted) || *found == other
            };
            let spelled = wanted.len() == other.split('/').count()
                && wanted.iter().zip(found.iter().zip(other.split('/'))).all(same);
            let again = exchange.table().find(method, &other).map(|(index, _)| index);
            assert!(spelled || again != Some(index), "{other} finds {} too", row.path);
        }
    }
}
