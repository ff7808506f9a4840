//! What an order on Binance is worth at most, where it says so itself.

use crate::decimal::Amount;
use crate::exchange::classify::Order;

/// Assets a symbol may end in.
const QUOTES: &[&str] = &[
    "ARS", "AUD", "BIDR", "BNB", "BRL", "BTC", "BUSD", "COP", "CZK", "DAI", "DOGE", "ETH", "EUR", "EURI", "FDUSD",
    "GBP", "IDRT", "JPY", "MXN", "NGN", "PLN", "RON", "RUB", "SOL", "TRX", "TRY", "TUSD", "UAH", "USD1", "USDC",
    "USDP", "USDT", "VAI", "XRP", "ZAR",
];

/// Quantity by price in the quote asset. A sell is worth its limit price: the least it can bring.
pub(super) fn notional(order: &Order) -> Result<(String, Amount), &'static str> {
    let symbol = order.symbol.as_deref().ok_or("it names no symbol")?;
    let quote = QUOTES.iter().filter(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
    // `BTCUSD_PERP` and `BTC-240628-60000-C` end in no asset: inverse contracts and options are not counted.
    let asset = *quote.max_by_key(|quote| quote.len()).ok_or("the quote asset of its symbol is not known")?;
    let set = |name: &str| order.extra(name).is_some_and(|value| value != "false" && value != "NONE");
    if ["priceMatch", "pegPriceType", "closePosition"].into_iter().any(set) {
        return Err("its price or size is relative");
    }
    if order.kind.is_none() && order.extra("stopPrice").is_some() {
        return Err("it is a pair of orders with two prices");
    }
    let amount = |text: &Option<String>| text.as_deref().map(Amount::parse).transpose();
    let parsed = |text| amount(text).map_err(|_| "a number of it is not a plain decimal");
    let (quantity, price, quote) = (parsed(&order.quantity)?, parsed(&order.price)?, parsed(&order.quote)?);
    let worth = match (order.kind.as_deref(), quantity, price, quote) {
        (Some("MARKET"), None, None, Some(quote)) => quote,
        (
            None | Some("LIMIT" | "LIMIT_MAKER" | "STOP" | "STOP_LOSS_LIMIT" | "TAKE_PROFIT" | "TAKE_PROFIT_LIMIT"),
            Some(quantity),
            Some(price),
            None,
        ) => quantity.checked_mul_up(price).ok_or("it has too many digits")?,
        _ => return Err("it has no limit price and no size in the quote asset"),
    };
    Ok((asset.to_owned(), worth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(fields: &str) -> Result<String, &'static str> {
        let mut order = Order { symbol: Some("BTCUSDT".to_owned()), sized: true, ..Order::default() };
        for field in fields.split_whitespace() {
            let (name, value) = field.split_once('=').expect("name=value");
            let value = Some(value.to_owned());
            match name {
                "kind" => order.kind = value,
                "price" => order.price = value,
                "quantity" => order.quantity = value,
                "quote" => order.quote = value,
                "symbol" => order.symbol = value,
                _ => order.extra.extend(value.map(|value| (name.to_owned(), value))),
            }
        }
        notional(&order).map(|(asset, amount)| format!("{amount} {asset}"))
    }

    #[test]
    fn worth_is_known_from_price_and_quantity_or_from_the_quote_size() {
        for (fields, expected) in [
            ("kind=LIMIT quantity=0.5 price=30000", "15000.0 USDT"),
            ("kind=STOP_LOSS_LIMIT quantity=2 price=3 stopPrice=4", "6 USDT"),
            ("kind=MARKET quote=250", "250 USDT"),
            ("quantity=2 price=3", "6 USDT"),
            ("kind=LIMIT quantity=2 price=3 symbol=ADAEUR closePosition=false priceMatch=NONE", "6 EUR"),
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
