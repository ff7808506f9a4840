//! What an order is worth, where its own numbers say it.

use crate::decimal::Amount;

/// Quantity times limit price, in the quote asset.
pub fn priced<'a>(
    asset: &'a str,
    quantity: Option<&str>,
    price: Option<&str>,
) -> Result<(&'a str, Amount), &'static str> {
    let quantity = number(quantity.ok_or("it has no size")?)?;
    let price = number(price.ok_or("it has no price")?)?;
    Ok((asset, quantity.checked_mul_up(price).ok_or("it has too many digits")?))
}

/// A size in the quote asset.
pub fn quoted<'a>(asset: &'a str, amount: Option<&str>) -> Result<(&'a str, Amount), &'static str> {
    Ok((asset, number(amount.ok_or("it has no size in the quote asset")?)?))
}

/// What stands behind the separator of `BASE-QUOTE`; a symbol with more parts is no pair.
pub fn quote_of(symbol: Option<&str>, separator: char) -> Result<&str, &'static str> {
    match symbol.ok_or("it names no symbol")?.split_once(separator) {
        Some((base, quote)) if !base.is_empty() && !quote.is_empty() && !quote.contains(separator) => Ok(quote),
        _ => Err("its symbol is no pair of assets"),
    }
}

/// The quote asset of a symbol without a separator: the longest of these that it ends in, as it stands there.
pub fn ending_in(symbol: Option<&str>, quotes: &[&'static str]) -> Result<&'static str, &'static str> {
    let symbol = symbol.ok_or("it names no symbol")?;
    let endings = quotes.iter().filter(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
    endings.max_by_key(|quote| quote.len()).copied().ok_or("the quote asset of its symbol is not known")
}

fn number(text: &str) -> Result<Amount, &'static str> {
    Amount::parse(text).map_err(|_| "a number of it is not a plain decimal")
}
