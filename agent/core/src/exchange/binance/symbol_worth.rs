//! Finds the quote asset of an order on Binance, in which its worth is counted.

use crate::exchange::order::Order;

/// Assets a symbol may end in, sorted; each of three to five letters.
const QUOTES: &[&str] = &[
    "ARS", "AUD", "BIDR", "BNB", "BRL", "BTC", "BUSD", "COP", "CZK", "DAI", "DOGE", "ETH", "EUR",
    "EURI", "FDUSD", "GBP", "IDRT", "JPY", "MXN", "NGN", "PLN", "RON", "RUB", "SOL", "TRX", "TRY",
    "TUSD", "UAH", "USD1", "USDC", "USDP", "USDT", "VAI", "XRP", "ZAR",
];

/// The quote asset of the order's symbol, in which its price is counted.
pub(super) fn quote_asset<'a>(order: &'a Order<'_>) -> Result<&'a str, &'static str> {
    if !order.typed && order.member("stopPrice").is_some() {
        return Err("it is a pair of orders with two prices");
    }
    if order.kind.as_deref() == Some("TAKE_PROFIT") && order.market.as_deref() != Some("futures") {
        return Err("on spot, an order of this type does not keep to a price");
    }
    if order.member("quoteAsset").is_some() {
        return Err("it names an asset of its own for its price");
    }
    // `BTCUSD_PERP` and `BTC-240628-60000-C` end in no asset: inverse contracts and options are not
    // counted.
    let symbol = order.symbol.as_deref().ok_or("it names no symbol")?;
    quote_of(symbol).ok_or("the quote asset of its symbol is not known")
}

/// The longest asset the symbol ends in.
fn quote_of(symbol: &str) -> Option<&str> {
    (3..=5).rev().find_map(|length| {
        let base = symbol.len().checked_sub(length).filter(|base| *base > 0)?;
        symbol.get(base..).filter(|quote| QUOTES.binary_search(quote).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::binance::Binance;
    use crate::exchange::worth;
    use crate::json::Value;

    #[test]
    fn quotes_can_be_searched() {
        assert!(QUOTES.is_sorted() && QUOTES.iter().all(|quote| (3..=5).contains(&quote.len())));
        for (symbol, quote) in [
            ("BNBUSDC", Some("USDC")),
            ("XFDUSD", Some("FDUSD")),
            ("USDT", None),
            ("é€USDT", Some("USDT")),
        ] {
            assert_eq!(quote_of(symbol), quote, "{symbol}");
        }
        for short in ["", "x", "€", "BTC", "a€b"] {
            assert_eq!(quote_of(short), None, "{short}");
        }
    }

    fn worth(fields: &str) -> Result<String, String> {
        let mut order = Order {
            symbol: Some("BTCUSDT".into()),
            sized: true,
            typed: fields.contains("kind="),
            ..Order::default()
        };
        for field in fields.split_whitespace() {
            let (name, value) = field.split_once('=').expect("name=value");
            let text = Value::String(value.to_owned());
            let value = Some(value.into());
            match name {
                "kind" => order.kind = value,
                "price" => order.price = value,
                "quantity" => order.quantity = value,
                "quote" => order.quote = value,
                "symbol" => order.symbol = value,
                _ => order.members.to_mut().push((name.to_owned(), text)),
            }
        }
        worth::notional(&Binance, &order).map(|(asset, amount)| format!("{amount} {asset}"))
    }

    #[test]
    fn worth_is_known_from_price_and_quantity_or_from_the_quote_size() {
        for (fields, expected) in [
            ("kind=LIMIT quantity=0.5 price=30000", "15000.0 USDT"),
            ("kind=STOP_LOSS_LIMIT quantity=2 price=3 stopPrice=4", "6 USDT"),
            ("kind=MARKET quote=250", "250 USDT"),
            ("quantity=2 price=3", "6 USDT"),
            (
                "kind=LIMIT quantity=2 price=3 symbol=ADAEUR closePosition=false priceMatch=NONE",
                "6 EUR",
            ),
            ("kind=LIMIT quantity=2 price=3 symbol=BNBFDUSD", "6 FDUSD"),
        ] {
            assert_eq!(worth(fields).expect(fields), expected);
        }
    }

    #[test]
    fn worth_that_is_not_in_the_request_is_not_guessed() {
        for fields in [
            "kind=MARKET quantity=1",
            "kind=MARKET quantity=1 quote=1",
            "kind=LIMIT quantity=1",
            "kind=LIMIT quantity=1 price=1e3",
            "kind=LIMIT quantity=+1 price=1",
            "kind=LIMIT quantity=1 price=1 priceMatch=OPPONENT",
            "kind=LIMIT quantity=1 price=1 pegPriceType=PRIMARY_PEG",
            "kind=STOP_MARKET quantity=1 price=1",
            "kind=TRAILING_STOP_MARKET quantity=1 price=1",
            "quantity=1 price=1 stopPrice=2",
            "kind=LIMIT quantity=1 price=1 symbol=BTCUSD_PERP",
            "kind=LIMIT quantity=1 price=1 symbol=BTC-240628-60000-C",
            "kind=LIMIT quantity=1 price=1 symbol=USDT",
        ] {
            assert!(worth(fields).is_err(), "{fields}");
        }
    }
}
