//! Shows a person text that may be meant to mislead: the whole text, with every unseen character
//! made visible.

/// True for a character that a person does not see as itself: control characters, blanks other than
/// the plain one, and those that reorder, join, hide or overlay others.
pub fn is_unseen(character: char) -> bool {
    // Unicode counts these among letters and symbols, but nothing is drawn for them.
    const EMPTY_GLYPHS: [char; 7] =
        ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}', '\u{fffc}', '\u{1d159}'];
    let is_empty_glyph = EMPTY_GLYPHS.contains(&character);
    is_empty_glyph || !matches!(character, '\\' | '"' | '\'') && character.escape_debug().len() > 1
}

/// The text on one line, without characters that a terminal would obey or reorder.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unseen(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    safe
}

/// The text in ASCII only. Every other character, and every unseen one, is spelled out.
pub fn spelled(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        match !character.is_ascii() || is_unseen(character) {
            true => ascii.extend(character.escape_unicode()),
            false => ascii.push(character),
        }
    }
    ascii
}

/// The text in quotes, so that a person sees its end. Blanks that could be overlooked are spelled
/// out. If the text is not plain ASCII its spelling follows, because other letters may look the
/// same.
pub fn quoted(text: &str) -> String {
    let shown = format!("\"{}\"", escaped(text, is_unseen));
    if text.is_ascii() {
        return shown;
    }
    format!(
        "{shown} (spelled \"{}\")",
        escaped(text, |character| !character.is_ascii() || is_unseen(character))
    )
}

/// A name as it is if it has only letters, digits, '-', '_', '.' and '/' of ASCII; any other in
/// quotes.
pub fn word(text: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if !text.is_empty() && text.bytes().all(is_plain) { text.to_owned() } else { quoted(text) }
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut after_blank = true;
    while let Some(character) = characters.next() {
        let is_overlooked = character == ' ' && (after_blank || characters.peek().is_none());
        match character {
            _ if is_overlooked || is_escaped(character) => shown.extend(character.escape_unicode()),
            '"' | '\\' => shown.extend(['\\', character]),
            _ => shown.push(character),
        }
        after_blank = character == ' ';
    }
    shown
}

/// An address of visible ASCII in groups of four, which people can compare; any other in quotes.
pub fn address(text: &str) -> String {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { in_fours(text) } else { quoted(text) }
}

/// The whole address in groups of four.
pub fn in_fours(address: &str) -> String {
    let letters: Vec<char> = address.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// The difference between two names that a person may take for the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Likeness {
    /// They differ only in blanks, or in characters that are not seen.
    Blanks,
    /// They differ only in letters or signs that look alike.
    Letters,
}

/// A name prepared for comparison with many others.
#[derive(Debug)]
pub struct LegibleName<'a> {
    name: &'a str,
    seen: String,
    drawn: Vec<char>,
}

impl<'a> LegibleName<'a> {
    pub fn of(name: &'a str) -> Self {
        let seen: String =
            name.chars().filter(|one| !one.is_whitespace() && !is_unseen(*one)).collect();
        Self { name, drawn: drawn(&seen), seen }
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The likeness of two names; `None` if they are the same, or if they do not look alike.
    pub fn like(&self, other: &Self) -> Option<Likeness> {
        if self.name == other.name {
            None
        } else if self.seen == other.seen {
            Some(Likeness::Blanks)
        } else {
            let pairs = || self.drawn.iter().zip(&other.drawn);
            let alike = self.drawn.len() == other.drawn.len()
                && pairs().all(|(one, other)| looks_like(*one, *other));
            alike.then_some(Likeness::Letters)
        }
    }
}

/// Writes one sign for all ASCII signs that look alike.
fn drawn(seen: &str) -> Vec<char> {
    let one = |letter: char| match letter.to_ascii_lowercase() {
        '0' => 'o',
        '1' | 'i' | '|' | '!' => 'l',
        '2' => 'z',
        '5' | '$' => 's',
        '8' => 'b',
        '_' | '.' | ',' => '-',
        letter => letter,
    };
    // A syllable of Hangul may be written in its parts. Its first part then stands for all of it.
    let is_rest_of_syllable = |letter: &char| matches!(letter, '\u{1160}'..='\u{11ff}');
    let text: String =
        seen.chars().filter(|letter| !is_rest_of_syllable(letter)).map(one).collect();
    text.replace("rn", "m").replace("vv", "w").chars().collect()
}

/// The scripts of East Asia, whose letters do not look like those of ASCII. Signs of several
/// scripts, parts of letters and compatible forms of letters belong to none of them here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EastAsian {
    Han,
    Hangul,
    Hiragana,
    Katakana,
}

impl EastAsian {
    fn of(letter: char) -> Option<Self> {
        match letter {
            '\u{3041}'..='\u{3096}' => Some(Self::Hiragana),
            '\u{30a1}'..='\u{30fa}' => Some(Self::Katakana),
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => Some(Self::Han),
            '\u{20000}'..='\u{2f7ff}' | '\u{30000}'..='\u{3ffff}' => Some(Self::Han),
            '\u{ac00}'..='\u{d7a3}' => Some(Self::Hangul),
            _ => None,
        }
    }
}

/// True if two characters may look alike. Two different characters of ASCII do not. Two different
/// letters of one East Asian script do not, and such a letter does not look like ASCII. All other
/// characters may.
fn looks_like(one: char, other: char) -> bool {
    one == other
        || match (EastAsian::of(one), EastAsian::of(other)) {
            (Some(one), Some(other)) => one != other,
            (Some(_), None) => !other.is_ascii(),
            (None, Some(_)) => !one.is_ascii(),
            (None, None) => !(one.is_ascii() && other.is_ascii()),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unseen_is_left() {
        assert_eq!(plain("a\u{1b}[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(plain("Zürich 1 000 \"\\'"), "Zürich 1 000 \"\\'");
        assert_eq!(spelled("Z\u{fc}rich \u{7f}\"\\'"), "Z\\u{fc}rich \\u{7f}\"\\'");
        for hidden in "\u{0}\u{7f}\u{85}\u{a0}\u{ad}\u{300}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\
            \u{180e}\u{2003}\u{200b}\u{200d}\u{200f}\u{2028}\u{202e}\u{2060}\u{2066}\u{2069}\
            \u{206a}\u{2800}\u{3000}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{e0041}\u{e0100}\
            \u{e000}\u{fffc}\u{1d159}"
            .chars()
        {
            assert_eq!(
                plain(&format!("a{hidden}b")),
                format!("a{}b", hidden.escape_default()),
                "{hidden:?}"
            );
            let shown = quoted(&format!("a{hidden}b"));
            assert!(
                !shown.contains(hidden) && shown.contains(&hidden.escape_unicode().to_string()),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_is_quoted_ends_where_it_ends() {
        for (text, shown) in [
            ("cold storage", "\"cold storage\""),
            (" cold  storage ", "\"\\u{20}cold \\u{20}storage\\u{20}\""),
            ("cold\", memo \"7", "\"cold\\\", memo \\\"7\""),
            ("a\\u{20}b\n", "\"a\\\\u{20}b\\u{a}\""),
            ("c\u{43e}ld", "\"c\u{43e}ld\" (spelled \"c\\u{43e}ld\")"),
            ("a\u{202e}b", "\"a\\u{202e}b\" (spelled \"a\\u{202e}b\")"),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(text), shown);
        }
        assert_eq!(
            (word("BTC-USD_P.1/2"), word("BTC,memo"), word("")),
            ("BTC-USD_P.1/2".to_owned(), quoted("BTC,memo"), quoted(""))
        );
    }

    #[test]
    fn an_address_is_whole_and_in_fours() {
        assert_eq!(in_fours("bc1qar0srrr7x"), "bc1q ar0s rrr7 x");
        assert_eq!(in_fours(""), "");
        for (text, shown) in [
            ("bc1qar0srrr7x", "bc1q ar0s rrr7 x"),
            ("bc1q ar0s", "\"bc1q ar0s\""),
            ("b\u{441}1q", "\"b\u{441}1q\" (spelled \"b\\u{441}1q\")"),
            ("", "\"\""),
        ] {
            assert_eq!(address(text), shown);
        }
    }

    #[test]
    fn names_that_look_alike_are_found() {
        let like = |one: &str, other: &str| {
            let (one, other) = (LegibleName::of(one), LegibleName::of(other));
            assert_eq!(one.like(&other), other.like(&one), "{one:?} {other:?}");
            one.like(&other)
        };
        for (one, other) in [
            ("cold", "cold "),
            ("cold 1", "cold1"),
            ("cold  1", "cold 1"),
            ("cold", "co\u{200b}ld"),
            ("a b", "a\u{a0}b"),
        ] {
            assert_eq!(like(one, other), Some(Likeness::Blanks), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("cold", "c\u{43e}ld"),
            ("cold", "Cold"),
            ("cold", "co1d"),
            ("cold", "c0Id"),
            ("cold-1", "cold_l"),
            ("storm", "storrn"),
            ("cold", "\u{ff43}old"),
            ("c\u{3bf}ld", "c\u{43e}ld"),
            ("c\u{43e}ld ", "cold"),
            // One letter in two normal forms, and letters of two scripts that are drawn alike.
            ("caf\u{e9}", "cafe"),
            ("\u{8c48}", "\u{f900}"),
            ("\u{ac00}", "\u{1100}\u{1161}"),
            ("\u{ac01}", "\u{1100}\u{1161}\u{11a8}"),
            ("\u{4e8c}", "\u{30cb}"),
            ("\u{3078}", "\u{30d8}"),
            ("\u{4e00}", "\u{30fc}"),
            ("\u{4e00}", "\u{2f00}"),
        ] {
            assert_eq!(like(one, other), Some(Likeness::Letters), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("cold", "cold"),
            ("cold", "warm"),
            ("cold", "cold 3"),
            ("cold 3", "cold 4"),
            ("\u{51b7}", "\u{6696}"),
            ("\u{51b7}", "c"),
            ("\u{30db}\u{30c3}\u{30c8}", "\u{30b3}\u{30a2}\u{30d6}"),
            ("\u{ac00}", "\u{b098}"),
        ] {
            assert_eq!(like(one, other), None, "{one:?} {other:?}");
        }
    }
}
