//! Tests which names a request to Binance may carry. Its API signs neither method nor path, so only
//! the names say what a signature opens.

mod asked;

use std::collections::BTreeSet;

use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::classify::{Classified, classify};
use countersign_core::exchange::table::{Endpoint, Opening, Table};
use countersign_core::exchange::{Exchange, named};
use countersign_core::json::Value;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::request::{Method, Request};
use countersign_core::scope::{Scope, Scopes};

fn binance() -> &'static dyn Exchange {
    named("binance").expect("in the registry")
}

fn judged(method: Method, path: &str, params: Value) -> Result<Classified<'static>, Refusal> {
    let request: &'static Request =
        Box::leak(Box::new(asked::request(method, path, params).expect("plain names")));
    classify(binance(), Algorithm::HmacSha256, request)
}

fn with_names(names: &[&str]) -> Value {
    Value::Object(names.iter().map(|name| ((*name).to_owned(), "1".into())).collect())
}

fn scopes(list: &[Scope]) -> Scopes {
    list.iter().copied().collect()
}

/// Every name in a row's own lines.
fn names_of(table: &'static Table, row: usize) -> BTreeSet<&'static str> {
    table.openings_of(row).flat_map(Opening::names).collect()
}

fn rows(table: &'static Table) -> impl Iterator<Item = (usize, &'static Endpoint)> {
    table.endpoints().iter().enumerate().filter(|(_, row)| !row.withheld)
}

/// The openings that count for other rows, need some names, and find all of them among these.
fn completed<'a>(
    table: &'static Table,
    names: &'a BTreeSet<&'static str>,
) -> impl Iterator<Item = &'static Opening> + 'a {
    let counted = table
        .openings()
        .iter()
        .filter(|opening| table.counts(opening) && !opening.required.is_empty());
    counted.filter(|opening| opening.required.iter().all(|name| names.contains(name)))
}

#[test]
fn no_row_takes_a_name_that_it_does_not_list() {
    let table = binance().table();
    for (index, row) in rows(table) {
        let own = names_of(table, index);
        for name in ["cell_number", "strategyParameters", "address", "customerId", "transFrom"] {
            if own.contains(name) {
                continue;
            }
            let refused = judged(row.method, row.path, with_names(&[name])).expect_err(row.path);
            assert_eq!(
                refused.code,
                Code::RequestForbiddenParameter,
                "{} {} {name}",
                row.method,
                row.path
            );
            assert!(refused.message.contains(name), "{}", refused.message);
        }
    }
}

#[test]
fn every_row_takes_the_names_that_it_lists() {
    let table = binance().table();
    for (index, row) in rows(table) {
        for name in names_of(table, index) {
            judged(row.method, row.path, with_names(&[name]))
                .unwrap_or_else(|refusal| panic!("{} {} {name}: {refusal}", row.method, row.path));
        }
    }
}

#[test]
fn lists_and_texts_hold_no_name_that_the_row_does_not_list() {
    for (method, path, params, is_taken) in [
        (
            Method::Post,
            "/fapi/v1/batchOrders",
            r#"{"batchOrders":[{"symbol":"BTCUSDT","side":"BUY"}]}"#,
            true,
        ),
        (
            Method::Post,
            "/fapi/v1/batchOrders",
            r#"{"batchOrders":[{"symbol":"BTCUSDT","grid":"9"}]}"#,
            false,
        ),
        (
            Method::Post,
            "/eapi/v1/batchOrders",
            r#"{"orders":"[{\"symbol\":\"BTC\",\"isMmp\":true}]"}"#,
            true,
        ),
        (
            Method::Post,
            "/eapi/v1/batchOrders",
            r#"{"orders":"[{\"symbol\":\"BTC\",\"grid\":true}]"}"#,
            false,
        ),
        (
            Method::Put,
            "/sapi/v1/localentity/deposit/provide-info",
            r#"{"questionnaire":"{\"orgName\":\"A\"}"}"#,
            true,
        ),
        (
            Method::Put,
            "/sapi/v1/localentity/deposit/provide-info",
            r#"{"questionnaire":"{\"coin\":\"A\"}"}"#,
            false,
        ),
    ] {
        let outcome = judged(method, path, Value::parse(params).expect("JSON"));
        assert_eq!(
            outcome.as_ref().err().map(|refusal| refusal.code),
            (!is_taken).then_some(Code::RequestForbiddenParameter),
            "{params}"
        );
    }
}

/// A client that may only read is refused if the names fit more than a read. These rows are few,
/// and each is known.
#[test]
fn reads_whose_names_fit_what_moves_money_or_keys_are_known() {
    use Scope::{Admin, Transfer, Withdraw};
    let known: &[(&str, &[Scope])] = &[
        ("/dapi/v1/apiReferral/customization", &[Admin]),
        ("/fapi/v1/apiReferral/customization", &[Admin]),
        ("/fapi/v1/apiReferral/traderSummary", &[Admin]),
        ("/sapi/v1/account/apiRestrictions/ipRestriction", &[Admin]),
        ("/sapi/v1/apiReferral/customization", &[Admin]),
        ("/sapi/v1/apiReferral/rebate/historicalRecord", &[Admin]),
        ("/sapi/v1/apiReferral/rebate/recentRecord", &[Admin]),
        ("/sapi/v1/asset/custody/transfer-history", &[Admin]),
        ("/sapi/v1/broker/rebate/recentRecord", &[Admin]),
        ("/sapi/v1/broker/subAccount", &[Admin]),
        ("/sapi/v1/broker/subAccount/bnbBurn/status", &[Admin]),
        ("/sapi/v1/broker/subAccount/depositHist", &[Admin]),
        ("/sapi/v1/broker/subAccount/futuresSummary", &[Admin]),
        ("/sapi/v1/broker/subAccount/marginSummary", &[Admin]),
        ("/sapi/v1/broker/subAccount/spotSummary", &[Admin]),
        ("/sapi/v1/broker/subAccountApi", &[Admin]),
        ("/sapi/v1/broker/subAccountApi/commission/coinFutures", &[Admin]),
        ("/sapi/v1/broker/subAccountApi/commission/futures", &[Admin]),
        ("/sapi/v1/broker/subAccountApi/ipRestriction", &[Admin]),
        ("/sapi/v1/broker/transfer/futures", &[Admin]),
        ("/sapi/v1/capital/deposit/address", &[Withdraw]),
        ("/sapi/v1/capital/deposit/subAddress", &[Withdraw, Admin]),
        ("/sapi/v1/capital/deposit/subHisrec", &[Admin]),
        ("/sapi/v1/managed-subaccount/accountSnapshot", &[Admin]),
        ("/sapi/v1/managed-subaccount/asset", &[Admin]),
        ("/sapi/v1/managed-subaccount/deposit/address", &[Withdraw, Admin]),
        ("/sapi/v1/managed-subaccount/fetch-future-asset", &[Admin]),
        ("/sapi/v1/managed-subaccount/info", &[Admin]),
        ("/sapi/v1/managed-subaccount/marginAsset", &[Admin]),
        ("/sapi/v1/managed-subaccount/queryTransLogForInvestor", &[Admin]),
        ("/sapi/v1/managed-subaccount/queryTransLogForTradeParent", &[Admin]),
        ("/sapi/v1/margin/isolated/transfer", &[Transfer]),
        ("/sapi/v1/mining/hash-transfer/profit/details", &[Transfer]),
        ("/sapi/v1/sub-account/assets", &[Admin]),
        ("/sapi/v1/sub-account/futures/account", &[Admin]),
        ("/sapi/v1/sub-account/futures/internalTransfer", &[Admin]),
        ("/sapi/v1/sub-account/futures/positionRisk", &[Admin]),
        ("/sapi/v1/sub-account/list", &[Admin]),
        ("/sapi/v1/sub-account/margin/account", &[Admin]),
        ("/sapi/v1/sub-account/spotSummary", &[Admin]),
        ("/sapi/v1/sub-account/status", &[Admin]),
        ("/sapi/v1/sub-account/subAccountApi", &[Admin]),
        ("/sapi/v1/sub-account/subAccountApi/ipRestriction", &[Admin]),
        ("/sapi/v1/sub-account/transaction-statistics", &[Admin]),
        ("/sapi/v2/broker/subAccount/depositHist", &[Admin]),
        ("/sapi/v2/broker/subAccount/futuresSummary", &[Admin]),
        ("/sapi/v2/localentity/deposit/history", &[Admin]),
        ("/sapi/v2/sub-account/futures/account", &[Admin]),
        ("/sapi/v2/sub-account/futures/positionRisk", &[Admin]),
        ("/sapi/v3/broker/subAccount/futuresSummary", &[Admin]),
        ("/sapi/v3/sub-account/assets", &[Admin]),
        ("/sapi/v4/sub-account/assets", &[Admin]),
    ];
    let table = binance().table();
    let reads = rows(table).filter(|(_, row)| row.scope == Scope::Read);
    let found: Vec<_> = reads
        .filter_map(|(index, row)| {
            let names = names_of(table, index);
            let opened = completed(table, &names).map(|opening| table.endpoint(opening).scope);
            let opened: Scopes =
                opened.filter(|scope| matches!(scope, Admin | Transfer | Withdraw)).collect();
            (opened != Scopes::NONE).then_some((row.path, opened))
        })
        .collect();
    let known: Vec<_> = known.iter().map(|(path, opened)| (*path, scopes(opened))).collect();
    assert_eq!(found, known);
}

/// A caller can cut the signed text in the middle of a name, so that only the end of the name is
/// sent. So no row may list names whose ends open an endpoint that the whole names do not open.
#[test]
fn ends_of_names_open_nothing() {
    let table = binance().table();
    let all: BTreeSet<_> = table.openings().iter().flat_map(Opening::names).collect();
    for (index, row) in rows(table) {
        let own = names_of(table, index);
        let ends = |name: &'static str| {
            (1..name.len())
                .filter_map(|cut| name.get(cut..))
                .filter(|end| all.contains(end))
                .collect::<Vec<_>>()
        };
        let cut: BTreeSet<_> =
            own.iter().copied().chain(own.iter().flat_map(|name| ends(name))).collect();
        for opening in completed(table, &cut) {
            let opened = table.endpoint(opening);
            let by_itself = opening.required.iter().all(|name| own.contains(name));
            assert!(
                by_itself,
                "{} {} is {} {}, cut",
                row.method, row.path, opened.method, opened.path
            );
        }
    }
}

#[test]
fn endpoints_that_ccxt_does_not_have_are_rows() {
    use Scope::{Account, Admin, Read, Trade, Transfer};
    for (method, path, params, expected) in [
        (Method::Post, "/eapi/v1/transfer", "currency amount type", [Transfer]),
        (Method::Post, "/sapi/v1/margin/loan-group/transfer-out", "asset amount", [Transfer]),
        (Method::Post, "/sapi/v1/margin/loan-group/borrow", "groupId assetName amount", [Account]),
        (Method::Delete, "/sapi/v1/margin/loan-group", "groupId", [Account]),
        (Method::Get, "/sapi/v1/margin/loan-group/ltv-details", "", [Read]),
        (Method::Post, "/sapi/v1/margin/loan-group/edit-member", "groupId subEmail", [Admin]),
        (Method::Post, "/sapi/v1/broker/subAccount/convert", "subAccountId convert", [Admin]),
        (
            Method::Post,
            "/sapi/v2/loan/flexible/repay/collateral",
            "loanCoin collateralCoin repayAmount",
            [Account],
        ),
        (Method::Put, "/fapi/v1/order/amend/keepPriority", "symbol newQty", [Trade]),
        (Method::Post, "/sapi/v1/w3w/wallet/prediction/otc/blocktrade/detail", "orderId", [Trade]),
        (Method::Post, "/sapi/v1/w3w/wallet/prediction/otc/blocktrade/list", "", [Trade]),
    ] {
        let names: Vec<_> = params.split_whitespace().collect();
        let classified = judged(method, path, with_names(&names))
            .unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
        assert_eq!(scopes(&[classified.scope]), scopes(&expected), "{path}");
        assert!(classified.effective.contains(classified.scope), "{path}");
    }
}

/// A row may have only one name beside its own: the one that asks for rate limits in the WebSocket
/// API's answers.
#[test]
fn harmless_is_one_name() {
    for path in ["/api/v3/account", "/sapi/v1/capital/withdraw/apply"] {
        let method = if path.starts_with("/api") { Method::Get } else { Method::Post };
        judged(method, path, with_names(&["returnRateLimits"]))
            .unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
    }
    let harmless = include_str!("../src/exchange/binance.params")
        .lines()
        .filter(|line| line.starts_with("harmless "));
    assert_eq!(harmless.count(), 1);
}
