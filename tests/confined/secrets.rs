//! Secrets are only where they belong. The tests look for them in the front's memory under load, in
//! the state directory and in the logs.

use std::fs;
use std::path::Path;
use std::thread;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

use crate::harness::agent::{Agent, BOT, ORDER, SECRET, call};
use crate::harness::process_memory::{holds, memory};

/// Every form that is as good as the secret itself.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut block = secret.to_vec();
    block.resize(64, 0);
    let pad = |byte: u8| block.iter().map(|other| other ^ byte).collect::<Vec<u8>>();
    let midstate = |pad: &[u8]| {
        let mut state = [
            0x6a09_e667_u32,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        let block: [u8; 64] = pad.try_into().expect("one block");
        sha2::compress256(&mut state, &[block.into()]);
        state
    };
    let (inner, outer) = (midstate(&pad(0x36)), midstate(&pad(0x5c)));
    let words = |state: [u32; 8], bytes: fn(u32) -> [u8; 4]| {
        state.into_iter().flat_map(bytes).collect::<Vec<u8>>()
    };
    vec![
        ("the secret", secret.to_vec()),
        ("its hex", HEXLOWER.encode(secret).into_bytes()),
        ("its upper hex", HEXUPPER.encode(secret).into_bytes()),
        ("its base64", BASE64.encode(secret).into_bytes()),
        ("its base64url", BASE64URL_NOPAD.encode(secret).into_bytes()),
        ("the inner pad", pad(0x36)),
        ("the outer pad", pad(0x5c)),
        ("the inner midstate", words(inner, u32::to_ne_bytes)),
        ("the outer midstate", words(outer, u32::to_ne_bytes)),
        ("the inner midstate as written", words(inner, u32::to_be_bytes)),
        ("the outer midstate as written", words(outer, u32::to_be_bytes)),
    ]
}

#[test]
fn the_front_never_holds_a_secret_or_a_pin() {
    let agent = Agent::with_binance(BOT);
    let pin = agent.token.pin();
    let control = "planted-control-7f3a9c";
    let scanned = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = agent.client();
            for _ in 0..40 {
                let mut order = call("binance-mm", "POST", "/api/v3/order", ORDER);
                order.reason = Some(control.to_owned());
                let calls: Vec<_> = (0..32).map(|_| order.clone()).collect();
                client.sign_all(&calls).expect("answers");
            }
        });
        let mut scans = Vec::new();
        while (!load.is_finished() && scans.len() < 5) || scans.is_empty() {
            scans.push(memory(agent.pid()));
        }
        load.join().expect("the load ends");
        scans
    });
    assert!(
        scanned.iter().any(|memory| holds(memory, control.as_bytes())),
        "the scan sees what the front holds"
    );
    for (name, form) in forms(SECRET.as_bytes()).into_iter().chain([("the PIN", pin.into_bytes())])
    {
        assert!(!scanned.iter().any(|memory| holds(memory, &form)), "the front holds {name}");
        for file in [agent.state_dir(), agent.path().join("log")] {
            assert!(!holds(&everything_below(&file), &form), "{} holds {name}", file.display());
        }
    }
}

fn everything_below(path: &Path) -> Vec<u8> {
    if path.is_file() {
        return fs::read(path).expect("readable");
    }
    let entries = fs::read_dir(path).expect("a directory");
    entries.flat_map(|entry| everything_below(&entry.expect("an entry").path())).collect()
}

#[test]
fn the_api_key_id_and_the_passphrase_are_not_on_disk_in_the_clear() {
    let agent = Agent::start(BOT, "");
    agent
        .add("okx", "okx", "the-api-key-id-1234", "the-secret-5678", Some("the-passphrase-90"))
        .expect("enrolled");
    agent.sign("okx", "GET", "/api/v5/account/balance", "{}").expect("signed");
    let (state, token) =
        (everything_below(&agent.state_dir()), everything_below(&agent.token.tokens()));
    for text in ["the-api-key-id-1234", "the-secret-5678", "the-passphrase-90"] {
        assert!(
            !holds(&state, text.as_bytes()) && !holds(&token, text.as_bytes()),
            "{text} is on the disk"
        );
        assert!(!agent.log().contains(text), "{text} is in the log");
    }
}
