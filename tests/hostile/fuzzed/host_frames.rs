//! Answers of a token host. A PKCS#11 module runs in the host's process, so the front trusts none
//! of its answers.

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::frame::{Frames, MessageFrameError, encode};
use countersign_base::messages::token_host::{
    FromHost, HostError, HostedKey, MAX_MESSAGE, TokenFacts,
};
use countersign_core::algorithm::Algorithm;

pub fn seeds() -> Vec<Vec<u8>> {
    let key = HostedKey {
        name: "binance-mm".to_owned(),
        algorithm: Algorithm::HmacSha256,
        api_key: Some("id".to_owned()),
        has_passphrase: true,
        public_key_der: Some(vec![48, 0]),
        working_copy: true,
    };
    let token = TokenFacts { label: "hsm".to_owned(), ..TokenFacts::default() };
    let mut bytes = Vec::new();
    for message in [
        FromHost::Ready { token, keys: vec![key.clone()], limits: ConfinementReport::default() },
        FromHost::Keys(vec![key.clone(), key]),
        FromHost::SelfTested { id: 1 },
        FromHost::Signed { id: 2, signature: vec![7; 32], passphrase: None },
        FromHost::Failed { id: 3, error: HostError::KeyUnknown("x".to_owned()) },
        FromHost::Broken(HostError::PinRefused("CKR_PIN_INCORRECT".to_owned())),
    ] {
        encode(&message, &mut bytes).expect("encodes");
    }
    vec![bytes, u32::MAX.to_le_bytes().to_vec()]
}

/// Checks that the same messages come out in whatever pieces the bytes arrive, and that each can be
/// encoded and read again.
pub fn check(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for step in [1, 5, 4096] {
        assert_eq!(read(bytes, step), whole, "in pieces of {step}");
    }
}

fn read(bytes: &[u8], step: usize) -> (Vec<String>, Option<String>) {
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    for piece in bytes.chunks(step) {
        frames.push(piece);
        loop {
            match frames.take::<FromHost>() {
                Ok(Some(message)) => seen.push(said_again(&message)),
                Ok(None) => break,
                Err(error) => return (seen, Some(judged(&error))),
            }
        }
    }
    (seen, None)
}

fn judged(error: &MessageFrameError) -> String {
    if let MessageFrameError::TooLong(length) = error {
        assert!(*length > MAX_MESSAGE);
    }
    error.to_string()
}

fn said_again(message: &FromHost) -> String {
    let (mut bytes, mut frames) = (Vec::new(), Frames::default());
    encode(message, &mut bytes).expect("a message from a frame fits one");
    frames.push(&bytes);
    let again: FromHost = frames.take().expect("well formed").expect("whole");
    let shown = format!("{message:?}");
    assert_eq!(format!("{again:?}"), shown);
    shown
}
