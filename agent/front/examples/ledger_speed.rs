//! Measures how much time the ledger adds to a request: `cargo run --release -p countersign-agent
//! --example ledger_speed [DIR]`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use countersign_core::decimal::Amount;
use countersign_core::policy::Spend;
use countersign_core::record::{Intent, Outcome, Record, RequestResult, SignedAtOnce};
use countersign_core::scope::{Scope, Scopes};
use countersign_front::ledger::storage::Disk;
use countersign_front::ledger::{LedgerWriter, Options};

const REQUESTS: u32 = 200_000;
const MESSAGE_SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const NOW_MS: u64 = 1_700_000_000_000;
const PARAMS: &str = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.01",
    "price":"30000","timeInForce":"GTC"}"#;

type Recorded = fn(&mut LedgerWriter, &[Spend]) -> anyhow::Result<()>;

fn intent(spends: &[Spend]) -> Intent<'_> {
    Intent {
        request_id: "01928f5c-7b1e-7c3a-9d51-000000000000".into(),
        client: "mm-bot".into(),
        uid: 1001,
        key: "binance-mm".into(),
        exchange: "binance".into(),
        method: "POST".into(),
        path: "/api/v3/order".into(),
        host: Some("api.binance.com".into()),
        scope: Scope::Trade,
        effective_scopes: Scopes::only(Scope::Trade),
        params: Some(PARAMS.into()),
        params_sha256: None,
        reason: None,
        transfers: (&[]).into(),
        spends: spends.into(),
    }
}

fn result() -> Record<'static> {
    Record::Result(RequestResult {
        request_id: "01928f5c-7b1e-7c3a-9d51-000000000000".into(),
        outcome: Outcome::Signed,
        message_sha256: Some(MESSAGE_SHA256.into()),
        error: None,
    })
}

/// Records a request as an intent and its result.
fn two_records(ledger: &mut LedgerWriter, spends: &[Spend]) -> anyhow::Result<()> {
    ledger.intend(NOW_MS, intent(spends))?;
    ledger.append(NOW_MS, &result())?;
    Ok(())
}

/// Records a request that is signed at once.
fn one_record(ledger: &mut LedgerWriter, spends: &[Spend]) -> anyhow::Result<()> {
    ledger.hold(NOW_MS, "mm-bot", spends, PARAMS.len())?;
    let signed = SignedAtOnce { intent: intent(spends), message_sha256: MESSAGE_SHA256.into() };
    ledger.append_held(NOW_MS, &Record::Signed(Box::new(signed)), PARAMS.len(), 0)?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let ways: [(&str, Recorded); 2] = [("two records", two_records), ("one record", one_record)];
    for (batch, (way, record)) in [1, 32].into_iter().flat_map(|batch| ways.map(|way| (batch, way)))
    {
        let dir = tempfile::tempdir_in(&parent)?;
        let (mut ledger, _) =
            LedgerWriter::open(dir.path(), Arc::new(Disk), Options::for_this_run(), NOW_MS)?;
        let spends = [Spend {
            window: "client/mm-bot/USDT".to_owned(),
            amount: Amount::parse("300")?,
            cap: Amount::parse("100000000")?,
        }];
        let start = Instant::now();
        for request in 0..REQUESTS {
            record(&mut ledger, &spends)?;
            if request % batch == batch - 1 {
                ledger.flush()?;
            }
        }
        let per_request = start.elapsed() / REQUESTS;
        ledger.close(NOW_MS)?;
        let start = Instant::now();
        let (_, report) =
            LedgerWriter::open(dir.path(), Arc::new(Disk), Options::for_this_run(), NOW_MS)?;
        writeln!(
            std::io::stdout(),
            "{batch} requests a write, {way} each: {per_request:?} a request; {} records taken up \
             in {:?}",
            report.opened.seq,
            start.elapsed()
        )?;
    }
    Ok(())
}
