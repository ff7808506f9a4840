//! Keeps a secret that someone wrote into the configuration out of the messages about it.

use std::ops::Range;

/// Words in the names of fields. If a name holds one of them, the value may be a secret.
const SECRET_WORDS: [&str; 5] = ["pass", "pin", "private", "puk", "secret"];

/// True if the name of a field suggests that its value is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Replaces every byte in these ranges by `*`. Line ends and all other bytes stay as they are.
pub(super) fn without(text: &str, hidden: &[Range<usize>]) -> String {
    let mut is_hidden = vec![false; text.len()];
    for range in hidden {
        is_hidden[range.start.min(text.len())..range.end.min(text.len())].fill(true);
    }
    let mut shown = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if character != '\n' && is_hidden[at] {
            shown.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Finds the values of secrets in a file that cannot be parsed. A value is the text after the name
/// of a secret, to the end of its last line.
pub(super) fn values_of_secrets(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let next = start + line.len();
        if let Some(value) = after_secret_name(line).map(|at| start + at) {
            hidden.push(value..closing(line).map_or(next, |closing| end_of(text, value, closing)));
        }
        start = next;
    }
    hidden
}

/// If a value begins on this line and goes on in the next, the text that ends the value.
fn closing(line: &str) -> Option<&'static str> {
    let pairs = [("\"\"\"", "\"\"\""), ("'''", "'''"), ("{", "}"), ("[", "]")];
    let (opening, closing) = pairs.into_iter().find(|(opening, _)| line.contains(opening))?;
    let at = line.find(opening)? + opening.len();
    (!line[at..].contains(closing)).then_some(closing)
}

fn end_of(text: &str, value: usize, closing: &str) -> usize {
    let after_opening = text[value..].find('\n').map_or(text.len(), |newline| value + newline);
    text[after_opening..].find(closing).map_or(text.len(), |at| after_opening + at)
}

fn after_secret_name(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let word_end =
        SECRET_WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len())).min()?;
    let in_name =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let between =
        |character: char| character.is_whitespace() || matches!(character, '=' | ':' | '"' | '\'');
    let value = line[word_end..].trim_start_matches(in_name).trim_start_matches(between);
    Some(line.len() - value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_keeps_its_length_and_lines() {
        let hidden = 4..10;
        assert_eq!(without("a = \"é\n1\"\nb", std::slice::from_ref(&hidden)), "a = ***\n**\nb");
        assert_eq!(without("ab", &[]), "ab");
    }

    #[test]
    fn what_follows_a_secrets_name_is_found_in_any_text() {
        for (line, shown) in [
            ("pin = 1234\"", "pin = *****"),
            ("pin \"1234\"", "pin \"*****"),
            ("  Api_Secret: abc", "  Api_Secret: ***"),
            ("'password' = 'x'", "'password' = '**"),
            ("keys = [\"a\"]", "keys = [\"a\"]"),
            ("pin = '''\n12\n34\n'''\nx", "pin = '''\n**\n**\n'''\nx"),
            ("pin = {\n a = 12\n", "pin = *\n*******\n"),
            ("pin = {\n a = 12 }\nb = 1", "pin = *\n********}\nb = 1"),
        ] {
            assert_eq!(without(line, &values_of_secrets(line)), shown, "{line}");
        }
    }
}
