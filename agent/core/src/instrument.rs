//! Names of assets and symbols as exchanges write them. Most are ASCII; the names of some coins
//! have letters of other scripts.

/// True for a letter or digit outside ASCII. Its UTF-8 has no byte of ASCII, so that no reader
/// finds a delimiter in it.
pub fn is_foreign(character: char) -> bool {
    !character.is_ascii() && character.is_alphanumeric()
}

/// True if this can be the name of an asset or a symbol: visible ASCII, and letters and digits of
/// any script. A name has no blanks, no control characters and no characters without a shape of
/// their own.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|character| character.is_ascii_graphic() || is_foreign(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_ascii_and_letters_of_any_script() {
        for name in
            ["BTC-USD_P:1000", "币安人生USDT", "龙虾USDT", "MØTHUSDT", "1000PEPE", "ПАРА", "ﾄｰｸﾝ"]
        {
            assert!(is_name(name), "{name:?}");
        }
        let hidden = [
            "BTC\u{200b}USDT",
            "\u{202e}BTC",
            "BTC\u{feff}",
            "A\u{ad}B",
            "a\u{a0}b",
            "a\u{3000}b",
            "a\u{85}b",
        ];
        for name in
            ["", "BTC USDT", "BTC\n", "a\0", "＆", "＝", "🐸", "\u{301}"].iter().chain(&hidden)
        {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
