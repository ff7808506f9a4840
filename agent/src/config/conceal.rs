//! Keeps a secret that someone wrote into the configuration out of the messages about it.

use std::ops::Range;

/// A field whose name holds one of these may be an attempt to write a secret down.
const SECRET_WORDS: [&str; 5] = ["pass", "pin", "private", "puk", "secret"];

/// True for a field name that promises a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The text with every byte of these ranges made unreadable, lines and all other places unchanged.
pub(super) fn without(text: &str, hidden: &[Range<usize>]) -> String {
    let is_hidden = |at: usize| hidden.iter().any(|range| range.contains(&at));
    let mut shown = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if character != '\n' && is_hidden(at) {
            shown.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What follows a secret's name on a line; for a file that cannot be parsed.
pub(super) fn lines_of_secrets(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        hidden.extend(after_secret_name(line).map(|from| start + from..start + line.len()));
        start += line.len();
    }
    hidden
}

fn after_secret_name(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let word_end = SECRET_WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len())).min()?;
    let in_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let between = |character: char| character.is_whitespace() || matches!(character, '=' | ':' | '"' | '\'');
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
        ] {
            assert_eq!(without(line, &lines_of_secrets(line)), shown, "{line}");
        }
    }
}
