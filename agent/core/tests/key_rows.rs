//! Tests that no row of scope `read` answers with a secret that gives access to another key, a
//! login or money.

use countersign_core::exchange::ALL;
use countersign_core::scope::Scope;

/// A part of a path with one of these words speaks of keys, tokens, vouchers or codes.
const WORDS: [&str; 14] = [
    "bullet",
    "code",
    "coupon",
    "credential",
    "giftcard",
    "jwt",
    "key",
    "passphrase",
    "passport",
    "redpacket",
    "secret",
    "stream",
    "token",
    "voucher",
];

/// The same for a whole path without the characters between its parts.
const PHRASES: [&str; 4] = ["subaccountapi", "subapi", "subsapi", "iprestriction"];

/// Rows of scope `read` with one of the words above, and the reason why that is allowed. None
/// answers with a secret. `*` stands for the rest of a path.
const HARMLESS: &[(&str, &str, &str)] = &[
    (
        "binance",
        "/sapi/v1/account/apiRestrictions/ipRestriction",
        "addresses that a key may be used from",
    ),
    ("binance", "/sapi/v1/blvt/tokenInfo", "tokens that are traded"),
    (
        "binance",
        "/sapi/v1/broker/subAccountApi",
        "key ids of sub-accounts; the table's page shows no secret",
    ),
    ("binance", "/sapi/v1/broker/subAccountApi/commission/coinFutures", "a fee"),
    ("binance", "/sapi/v1/broker/subAccountApi/commission/futures", "a fee"),
    (
        "binance",
        "/sapi/v1/broker/subAccountApi/ipRestriction",
        "addresses that a key may be used from",
    ),
    ("binance", "/sapi/v1/equity/market/tokenized-assets", "tokens that are traded"),
    ("binance", "/sapi/v1/equity/tokenized/convert-status", "tokens that are traded"),
    ("binance", "/sapi/v1/equity/tokenized/history", "tokens that are traded"),
    ("binance", "/sapi/v1/giftcard/buyCode/token-limit", "amounts of tokens that are traded"),
    ("binance", "/sapi/v1/giftcard/cryptography/rsa-public-key", "a public key of the exchange"),
    (
        "binance",
        "/sapi/v1/giftcard/verify",
        "takes the card's number, not its code, and says whether it is valid",
    ),
    ("binance", "/sapi/v1/lending/daily/token/position", "tokens that are traded"),
    (
        "binance",
        "/sapi/v1/margin/api-key-list",
        "ids and names of margin keys; the path is not signed",
    ),
    ("binance", "/sapi/v1/margin/apiKey", "id and name of a margin key; the path is not signed"),
    (
        "binance",
        "/sapi/v1/sub-account/subAccountApi",
        "key ids of sub-accounts; the path is not signed",
    ),
    (
        "binance",
        "/sapi/v1/sub-account/subAccountApi/ipRestriction",
        "addresses that a key may be used from",
    ),
    (
        "binance",
        "/sapi/v1/sub-account/apiRestrictions/ipRestriction/thirdPartyList",
        "names of companies",
    ),
    ("binance", "/sapi/v1/w3w/wallet/prediction/position/token", "tokens that are traded"),
    ("bitget", "/api/mix/v1/trace/profitSettleTokenIdGroup", "tokens that are traded"),
    ("bitmex", "/api/v1/user/checkReferralCode", "takes a code and says whether it is valid"),
    ("bitso", "/api/v3/mx_bank_codes", "numbers of banks"),
    ("bybit", "/v5/alpha/*", "tokens that are traded"),
    ("bybit", "/v5/earn/coupons", "coupons of the account, which only the account can use"),
    ("bybit", "/v5/earn/token/*", "tokens that are traded"),
    ("bybit", "/v5/ins-loan/ensure-tokens", "tokens that are traded"),
    ("bybit", "/v5/ins-loan/ensure-tokens-convert", "tokens that are traded"),
    ("bybit", "/v5/spot-cross-margin-trade/borrow-token", "tokens that are traded"),
    ("bybit", "/v5/spot-cross-margin-trade/pledge-token", "tokens that are traded"),
    ("bybit", "/v5/spot-lever-token/order-record", "tokens that are traded"),
    ("bybit", "/v5/spot-x/token-splash/user/activity-params", "tokens that are traded"),
    ("bybit", "/v5/user/invitation/code", "a code for new customers, made to be published"),
    ("coinbase", "/api/v3/brokerage/key_permissions", "rights of the key that asks"),
    (
        "htx",
        "/v2/user/api-key",
        "ids, rights and addresses of the account's keys; the rights of the one that asks are told \
         nowhere else",
    ),
    ("kraken", "/0/private/GetApiKeyInfo", "rights of the key that asks"),
    ("krakenfutures", "/api/auth/v1/api-keys/v3/check", "rights of the key that asks"),
    ("kucoin", "/api/ua/v1/user/api-key", "rights of the key that asks"),
    ("kucoin", "/api/v1/user/api-key", "rights of the key that asks"),
    ("mexc", "/api/v3/rebate/referCode", "a code for new customers, made to be published"),
    (
        "upbit",
        "/v1/api_keys",
        "ids of the account's keys and when they end; takes no parameter, and the path is not \
         signed",
    ),
    (
        "upbit",
        "/v1/pockets/api_keys",
        "ids, rights and addresses of keys by upbit-sdk 1.1.0; every read without parameters is \
         its signature",
    ),
    ("woo", "/v1/client/token", "tokens that are traded"),
    (
        "woo",
        "/v1/sub_account/ip_restriction",
        "addresses; every read without parameters is its signature",
    ),
    ("woo", "/v1/token_interest", "tokens that are traded"),
    ("woo", "/v1/token_interest/{token}", "tokens that are traded"),
    ("woo", "/v3/account/tokenConfig", "tokens that are traded"),
    ("woo", "/v3/asset/token/history", "tokens that are traded"),
];

/// Words of logins. The holder of such a key or token acts without another signature.
const LOGINS: [&str; 6] =
    ["bullet", "jwt", "listenkey", "listentoken", "userdatastream", "websocketstoken"];

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn is_path(path: &str, listed: &str) -> bool {
    listed.strip_suffix('*').map_or(path == listed, |beginning| path.starts_with(beginning))
}

fn speaks_of_keys(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.starts_with('{')).map(letters);
    let whole = letters(path);
    parts.any(|part| WORDS.iter().any(|word| part.contains(word)))
        || PHRASES.iter().any(|phrase| whole.contains(phrase))
}

#[test]
fn a_read_that_speaks_of_keys_is_known_to_answer_no_secret() {
    let mut unknown = Vec::new();
    for exchange in ALL {
        let name = exchange.facts().name;
        for row in exchange.table().endpoints().iter().filter(|row| row.scope == Scope::Read) {
            let known = HARMLESS.iter().any(|(of, path, _)| *of == name && is_path(row.path, path));
            if speaks_of_keys(row.path) && !known {
                unknown.push(format!("{name} {} {}", row.method, row.path));
            }
        }
    }
    assert_eq!(
        unknown,
        Vec::<String>::new(),
        "give each another scope, or say here why it answers no secret"
    );
}

#[test]
fn what_opens_a_session_is_never_a_read() {
    for exchange in ALL {
        for row in exchange.table().endpoints() {
            let path = letters(row.path);
            if LOGINS.iter().any(|login| path.contains(login)) {
                assert_eq!(
                    row.scope,
                    Scope::Session,
                    "{} {} {}",
                    exchange.facts().name,
                    row.method,
                    row.path
                );
            }
        }
    }
}

#[test]
fn what_makes_changes_or_shows_keys_is_for_administrators() {
    for (exchange, row) in [
        ("bitget", "POST /api/v3/user/delete-sub-api"),
        ("bitget", "POST /api/v3/user/update-sub-api"),
        ("bitget", "GET /api/v3/user/sub-api-list"),
        ("bitmex", "GET /api/v1/apiKey"),
        ("coinex", "GET /v2/account/subs/api"),
        ("coinex", "GET /v2/account/subs/api-detail"),
        ("deribit", "GET /api/v2/private/edit_api_key"),
        ("deribit", "GET /api/v2/private/list_api_keys"),
        ("gate", "GET /api/v4/account/main_keys"),
        ("kucoin", "GET /api/v1/sub/api-key"),
        ("okx", "GET /api/v5/users/subaccount/apikey"),
        ("whitebit", "POST /api/v4/sub-account/api-key/list"),
    ] {
        let found = ALL.iter().find(|one| one.facts().name == exchange).expect("an exchange");
        let rows = found.table().endpoints().iter();
        let scopes: Vec<_> = rows
            .filter(|one| format!("{} {}", one.method, one.path) == row)
            .map(|row| row.scope)
            .collect();
        assert_eq!(scopes, [Scope::Admin], "{exchange} {row}");
    }
}

/// A path with one of these words changes a key, or an address that money may go to. No read has
/// such a path.
const CHANGED: [&str; 8] = [
    "addressbook",
    "apikey",
    "iplist",
    "iprestriction",
    "subaccountapi",
    "subapi",
    "whitelist",
    "withdrawaddress",
];

#[test]
fn what_changes_keys_or_saved_addresses_is_for_administrators() {
    let mut tried = 0;
    for exchange in ALL {
        for row in exchange.table().rows().iter().filter(|row| row.scope != Scope::Read) {
            let path = letters(row.path);
            if CHANGED.iter().any(|word| path.contains(word)) {
                tried += 1;
                let name = exchange.facts().name;
                assert!(
                    matches!(row.scope, Scope::Admin | Scope::Withdraw),
                    "{name} {} {}",
                    row.method,
                    row.path
                );
            }
        }
    }
    assert!(tried > 40, "{tried}");
}
