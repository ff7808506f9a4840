//! Tests the recorder's requests whose intent is recorded only when they end.

use countersign_core::algorithm::Algorithm;
use countersign_core::key::{Environment, Key, Tier};
use countersign_core::ports::{Asked, Caller, Durability, Ledger as _, SigningIntent};
use countersign_core::refusal::{Code, Refusal};

use crate::ledger::ledger_tests::*;
use crate::ledger::recorder::Recorder;

fn key() -> Key {
    Key {
        name: KeyName::parse("binance-mm").expect("a name"),
        exchange: "binance",
        environment: Environment::Production,
        algorithm: Algorithm::HmacSha256,
        api_key: "id".to_owned(),
        scopes: Scopes::only(Scope::Trade),
        tier: Tier::Software,
        token: "token".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}

/// Leaves no room on the disk, and lets the ledger hold back as many records as it may.
fn fill(disk: &SimulatedDisk, recorder: &Recorder) {
    disk.set_capacity(disk.used());
    while recorder.synced_or_held_back(&result()).is_ok() {}
}

/// Makes room on the disk. True once the ledger has written all that it held back.
fn has_room_again(disk: &SimulatedDisk, recorder: &Recorder) -> bool {
    disk.set_capacity(1 << 20);
    (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(3));
        recorder.may_begin().is_ok()
    })
}

#[test]
fn a_request_has_no_result_on_record_without_its_intent() {
    let (key, caller) = (key(), Caller { client: "bot".to_owned(), uid: 1001, pid: None });
    let spends = [spend(USDT, "1", "200")];
    let intent = SigningIntent {
        request_id: "0195",
        caller: &caller,
        key: &key,
        asked: Asked::Session { purpose: "orders" },
        effective: Scopes::only(Scope::Trade),
        spends: &spends,
        payload: 100,
    };
    let refusal = Refusal::new(Code::AgentLocked, "locked meanwhile");
    for finds_room in [true, false] {
        let disk = SimulatedDisk::default();
        let (ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
        let recorder = Recorder::new(ledger, Path::new(STATE_DIR));
        let begun = recorder.intend(intent, Durability::WithSignature).expect("fits");
        if !finds_room {
            fill(&disk, &recorder);
        }
        assert_eq!(recorder.thrown_away(&begun, b"message").is_ok(), finds_room);
        assert!(finds_room || has_room_again(&disk, &recorder), "{:?}", recorder.health());
        recorder.failed(&begun, &refusal, &[]).expect("nothing is left to do");
        recorder.close().expect("closes");
        let of_request = entries(&disk)
            .into_iter()
            .filter(|entry| entry.line.contains(r#""request_id":"0195""#))
            .map(|entry| entry.kind)
            .collect::<Vec<_>>();
        let expected: &[&str] = if finds_room { &["intent", "thrown_away", "result"] } else { &[] };
        assert_eq!(of_request, expected);
        assert_sound(&disk);
    }
}
