//! Tests with signatures that approve, and with signatures that do not.

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{HashAlg, Signature};

use super::*;
use crate::decimal::Amount;
use crate::key::{Environment, KeyName};
use crate::record;
use crate::scope::Scope;
use crate::transfer::Transfer;

/// A FIDO key in software. It signs the bytes of OpenSSH's PROTOCOL.u2f.
pub(crate) struct Fido {
    key: SigningKey,
    pub(crate) public: PublicKey,
}

impl Fido {
    pub(crate) fn new(seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let point = Ed25519PublicKey(key.verifying_key().to_bytes());
        let public = KeyData::SkEd25519(SkEd25519::new(point, "ssh:".to_owned()));
        Self { public: public.into(), key }
    }

    pub(crate) fn approver(&self, name: &str) -> Approver {
        self.approver_of(name, name)
    }

    pub(crate) fn approver_of(&self, person: &str, name: &str) -> Approver {
        let (name, person) = (name.to_owned(), person.to_owned());
        Approver { name, person, key: self.public.clone(), touch: Touch::InSignature }
    }

    pub(crate) fn approve(&self, statement: &Statement) -> String {
        self.sign(NAMESPACE, &statement.bytes(), 1)
    }

    fn sign(&self, namespace: &str, message: &[u8], flags: u8) -> String {
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, message).expect("a namespace");
        let mut signed = Sha256::digest("ssh:").to_vec();
        let counter_is_zero = [flags, 0, 0, 0, 0];
        signed.extend(counter_is_zero);
        signed.extend(Sha256::digest(&data));
        let mut bytes = self.key.sign(&signed).to_bytes().to_vec();
        bytes.extend(counter_is_zero);
        let signature = Signature::new(Algorithm::SkEd25519, bytes).expect("a signature");
        if namespace == NAMESPACE {
            return sshsig::armoured(self.public.key_data(), &signature).expect("encodes");
        }
        let sshsig =
            SshSig::new(self.public.key_data().clone(), namespace, HashAlg::Sha512, signature);
        sshsig.and_then(|sshsig| sshsig.to_pem(Default::default())).expect("encodes")
    }
}

pub(crate) fn statement(request_id: &str) -> Statement {
    let amount = Amount::parse("0.5").ok();
    let text = |text: &str| Some(text.to_owned());
    let transfer = Transfer {
        endpoint: "POST /sapi/v1/capital/withdraw/apply".to_owned(),
        asset: text("BTC"),
        amount,
        network: text("BTC"),
        address: text("bc1qexample"),
        memo: None,
        from: None,
        to: None,
    };
    Statement {
        purpose: Purpose::Approval,
        agent: "agent-1".to_owned(),
        request_id: request_id.to_owned(),
        expires_ms: 1_700_000_120_000,
        policy_sha256: "ab".repeat(32),
        subject: Subject::Request {
            algorithm: None,
            client: "bot".to_owned(),
            key: KeyName::parse("binance-wd").expect("a name"),
            exchange: "binance".to_owned(),
            environment: Environment::Production,
            host: "api.binance.com".to_owned(),
            method: "POST".to_owned(),
            path: "/sapi/v1/capital/withdraw/apply".to_owned(),
            params: r#"{"coin":"BTC","network":"BTC","address":"bc1qexample","amount":"0.5"}"#
                .to_owned(),
            params_in: None,
            effective_scopes: [Scope::Withdraw].into_iter().collect(),
            transfers: vec![transfer],
        },
    }
}

/// An approver's PIV key in software, as an ssh-agent would sign with it.
struct Piv {
    key: p256::ecdsa::SigningKey,
    chain: String,
    root: String,
}

impl Piv {
    /// `policies` are those of the PIN and of touch; 2 means ALWAYS for touch.
    fn new(seed: u8, policies: [u8; 2]) -> Self {
        use p256::pkcs8::EncodePublicKey;
        let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a key");
        let public = key.verifying_key().to_public_key_der().expect("encodes");
        let (chain, root) =
            crate::attestation::attestation_tests::attested(public.as_bytes(), policies);
        Self { key, chain, root }
    }

    fn approver(&self, name: &str) -> Approver {
        let attested = AttestedKey::prove(&self.chain, Some(&self.root)).expect("attested");
        let (name, person) = (name.to_owned(), name.to_owned());
        Approver {
            name,
            person,
            key: attested.key().clone(),
            touch: Touch::Attested(Box::new(attested)),
        }
    }

    fn approve(&self, statement: &Statement) -> String {
        let signature: p256::ecdsa::Signature =
            self.key.sign(&sshsig::signed_data(&statement.bytes()));
        let signature = Signature::try_from(signature).expect("a signature");
        let public = *self.key.verifying_key();
        let key = KeyData::Ecdsa(ssh_key::public::EcdsaPublicKey::from(&public));
        sshsig::armoured(&key, &signature).expect("encodes")
    }
}

#[test]
fn an_attested_piv_key_approves_and_its_record_is_verified_by_itself() {
    let (alice, statement) = (Piv::new(7, [2, 2]), statement("r-1"));
    let approver = alice.approver("alice");
    let approval = Collected::new(statement.clone(), 1)
        .judge(&[approver], &alice.approve(&statement))
        .expect("approves");
    let record = record::Approval::of(&approval, "r-1", &statement);
    assert_eq!(record.verify(), Ok(()));
    let without = record::Approval { attestation: None, ..record.clone() };
    assert_eq!(without.verify(), Err(NotAnApproval::NoTouch));
    let unnamed_root = record::Approval { attestation_root: None, ..record.clone() };
    assert_eq!(unnamed_root.verify(), Err(NotAnApproval::NoTouch));
    let other = Piv::new(8, [2, 2]);
    let of_another = record::Approval { attestation: Some(other.chain.as_str().into()), ..record };
    assert_eq!(of_another.verify(), Err(NotAnApproval::NoTouch));
}

#[test]
fn what_does_not_prove_a_touch_each_time_is_refused() {
    for (policies, policy) in [([2, 1], "NEVER"), ([2, 3], "CACHED")] {
        let key = Piv::new(7, policies);
        let error =
            AttestedKey::prove(&key.chain, Some(&key.root)).expect_err("no touch each time");
        assert!(error.to_string().contains(policy), "{error}");
    }
    let key = Piv::new(7, [2, 2]);
    assert!(matches!(AttestedKey::prove(&key.chain, None), Err(Unproven::NotAttested(_))));
    // The attestation of another key does not help a key that has none.
    let (statement, other) = (statement("r-1"), Piv::new(8, [2, 2]));
    let swapped = Approver { key: key.approver("alice").key, ..other.approver("alice") };
    let judged = Collected::new(statement.clone(), 1).judge(&[swapped], &key.approve(&statement));
    assert_eq!(judged, Err(NotAnApproval::NoTouch));
}

/// An approval as the journal keeps it.
pub(crate) fn record() -> crate::record::Approval<'static> {
    let (alice, statement) = (Fido::new(1), statement("0192"));
    crate::record::Approval {
        request_id: "0192".into(),
        approver: "alice".into(),
        person: None,
        public_key: alice.public.to_openssh().expect("encodes").into(),
        touch: TouchProof::InSignature,
        attestation: None,
        attestation_root: None,
        statement: String::from_utf8(statement.bytes()).expect("JSON").into(),
        sshsig: alice.approve(&statement).into(),
    }
}

#[test]
fn one_touch_approves_one_request() {
    let (alice, statement) = (Fido::new(1), statement("r-1"));
    let mut collected = Collected::new(statement.clone(), 1);
    let approval =
        collected.judge(&[alice.approver("alice")], &alice.approve(&statement)).expect("approves");
    assert_eq!(approval.approver, "alice");
    assert!(!collected.is_complete());
    collected.take(approval);
    assert_eq!(collected.approved().expect("complete").request_id(), "r-1");
}

#[test]
fn a_record_is_verified_by_itself() {
    assert_eq!(record().verify(), Ok(()));
    let other_request = record::Approval { request_id: "0193".into(), ..record() };
    assert_eq!(other_request.verify(), Err(NotAnApproval::Wrong));
    let other_text = record().statement.replace("bc1qexample", "bc1qother");
    assert_eq!(
        record::Approval { statement: other_text.into(), ..record() }.verify(),
        Err(NotAnApproval::Wrong)
    );
}

#[test]
fn what_is_no_approval_is_told_apart() {
    let (alice, mallory, statement) = (Fido::new(1), Fido::new(2), statement("r-1"));
    let collected = Collected::new(statement.clone(), 1);
    let message = statement.bytes();
    let cases = [
        ("not a signature".to_owned(), NotAnApproval::Malformed),
        (alice.sign("file", &message, 1), NotAnApproval::Namespace("file".to_owned())),
        (alice.sign(NAMESPACE, &message, 0), NotAnApproval::NoTouch),
        // User verification without presence is no touch.
        (alice.sign(NAMESPACE, &message, 4), NotAnApproval::NoTouch),
        (mallory.approve(&statement), NotAnApproval::UnknownApprover),
        (alice.approve(&super::approval_tests::statement("r-2")), NotAnApproval::Wrong),
    ];
    for (sshsig, expected) in cases {
        assert_eq!(collected.judge(&[alice.approver("alice")], &sshsig), Err(expected));
    }
}

/// One statement of each kind, with every field that the kind can have.
fn statements() -> Vec<Statement> {
    let full = || {
        let mut full = statement("r-1");
        let Subject::Request { algorithm, params_in, transfers, .. } = &mut full.subject else {
            panic!("a request")
        };
        *algorithm = Some(crate::algorithm::Algorithm::Ed25519);
        *params_in = Some(crate::request::ParamsIn::Query);
        let transfer = &mut transfers[0];
        for field in [&mut transfer.memo, &mut transfer.from, &mut transfer.to] {
            *field = Some("7".to_owned());
        }
        full
    };
    let (text, some) = (str::to_owned, |text: &str| vec![text.to_owned()]);
    let subjects = [
        full().subject,
        Subject::Session {
            client: text("bot"),
            key: KeyName::parse("binance-wd").expect("a name"),
            exchange: text("binance"),
            environment: Environment::Production,
            session: text("ws"),
            effective_scopes: [Scope::Session].into_iter().collect(),
        },
        Subject::Unlock,
        Subject::Configuration {
            from_sha256: text("00"),
            to_sha256: text("11"),
            loosens: some("looser"),
            diff: text("+looser"),
        },
        Subject::Vault {
            token: text("vault"),
            recipients: vec![(text("yk"), 11)],
            policy_sha256: text("00"),
            terms_sha256: text("11"),
            loosens: some("looser"),
            diff: text("+looser"),
        },
    ];
    let of = |subject: Subject| Statement { purpose: subject.purpose(), subject, ..full() };
    subjects.map(of).into()
}

/// The paths to all values of a JSON text that hold no other values.
fn leaves(value: &serde_json::Value, path: &str) -> Vec<String> {
    let inner: Vec<_> = match value {
        serde_json::Value::Array(items) => {
            items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect()
        }
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), member)).collect()
        }
        _ => return vec![path.to_owned()],
    };
    assert!(!inner.is_empty(), "{path} holds nothing that could be changed");
    inner.iter().flat_map(|(name, value)| leaves(value, &format!("{path}/{name}"))).collect()
}

/// The values that may stand in the place of this one. One of them fits its field.
fn other_values(value: &serde_json::Value) -> Vec<serde_json::Value> {
    const WORDS: [&str; 6] = ["testnet", "hmac-sha256", "form", "trade", "0.6", "another"];
    match value {
        serde_json::Value::Number(number) => vec![(number.as_u64().expect("whole") + 1).into()],
        _ => WORDS.into_iter().map(Into::into).collect(),
    }
}

/// Takes every field that there is from the bytes of the statements. So a new field has a case too.
#[test]
fn every_field_is_part_of_what_is_signed() {
    let alice = Fido::new(1);
    let mut changed = Vec::new();
    for original in statements() {
        let sshsig = alice.approve(&original);
        let judge = |statement: Statement| {
            Collected::new(statement, 1).judge(&[alice.approver("alice")], &sshsig)
        };
        assert!(judge(original.clone()).is_ok());
        let json: serde_json::Value = serde_json::from_slice(&original.bytes()).expect("JSON");
        for path in leaves(&json, "") {
            // Purpose and kind are the two that no other value fits. They are words of their own.
            if ["/purpose", "/subject/kind"].contains(&path.as_str()) {
                continue;
            }
            let value = json.pointer(&path).expect("a leaf");
            let other = other_values(value).into_iter().find_map(|other| {
                let mut json = json.clone();
                *json.pointer_mut(&path).expect("a leaf") = other;
                serde_json::from_value::<Statement>(json).ok().filter(|other| *other != original)
            });
            let other = other.unwrap_or_else(|| panic!("no other value fits {path}"));
            assert_eq!(judge(other), Err(NotAnApproval::Wrong), "{path}");
            changed.push(path);
        }
        let other_purpose = match original.purpose {
            Purpose::Approval => Purpose::Change,
            Purpose::Change => Purpose::Approval,
        };
        let other = Statement { purpose: other_purpose, ..original.clone() };
        assert_eq!(judge(other), Err(NotAnApproval::Wrong), "the purpose");
    }
    for path in ["client", "key", "exchange", "environment", "host", "method", "path", "params"] {
        assert!(changed.contains(&format!("/subject/{path}")), "{path}");
    }
    assert!(changed.len() > 45, "{}", changed.len());
}

#[test]
fn a_second_approval_is_another_persons() {
    let (alice, bob, statement) = (Fido::new(1), Fido::new(2), statement("r-1"));
    let approvers = [alice.approver("alice"), bob.approver("bob"), alice.approver("alice-again")];
    let mut collected = Collected::new(statement.clone(), 2);
    collected.take(collected.judge(&approvers, &alice.approve(&statement)).expect("the first"));
    let again = collected.judge(&approvers, &alice.approve(&statement));
    assert_eq!(again, Err(NotAnApproval::Twice("alice".to_owned())));
    assert!(!collected.is_complete());
    collected.take(collected.judge(&approvers, &bob.approve(&statement)).expect("the second"));
    assert!(collected.is_complete());
}

#[test]
fn two_keys_of_one_person_are_one_approval() {
    let (alice, spare, bob, statement) =
        (Fido::new(1), Fido::new(2), Fido::new(3), statement("r-1"));
    let approvers =
        [alice.approver("alice"), spare.approver_of("alice", "spare"), bob.approver("bob")];
    for (first, other) in [(&alice, &spare), (&spare, &alice)] {
        let mut collected = Collected::new(statement.clone(), 2);
        collected.take(collected.judge(&approvers, &first.approve(&statement)).expect("the first"));
        let again = collected.judge(&approvers, &other.approve(&statement));
        assert_eq!(again, Err(NotAnApproval::Twice("alice".to_owned())));
        collected
            .take(collected.judge(&approvers, &bob.approve(&statement)).expect("another person"));
        assert!(collected.is_complete());
    }
    let approval = Collected::new(statement.clone(), 1)
        .judge(&approvers, &spare.approve(&statement))
        .expect("approves");
    let record = record::Approval::of(&approval, "r-1", &statement);
    assert_eq!((record.approver.as_ref(), record.person.as_deref()), ("spare", Some("alice")));
    assert_eq!(record.verify(), Ok(()));
}

#[test]
fn a_statement_has_one_spelling() {
    let text = String::from_utf8(statement("r-1").bytes()).expect("JSON");
    assert!(text.starts_with(r#"{"purpose":"countersign-approval/1","agent":"#));
    assert_eq!(Statement::parse(&text), Some(statement("r-1")));
    for other in [
        text.replace("\"agent\":", "\"agent\": "),
        text.replace("agent-1", "agent\\u002d1"),
        text.replace("countersign-approval/1", "countersign-approval/2"),
        text.replacen('{', "{\"more\":1,", 1),
        format!("{text} "),
    ] {
        assert_eq!(Statement::parse(&other), None, "{other}");
    }
}

#[test]
fn a_summary_that_does_not_follow_from_the_parameters_is_seen() {
    let reviewed = review(&statement("r-1")).expect("as it says").expect("a request");
    assert!(!reviewed.residual.is_empty());
    let with = |change: &dyn Fn(&mut Subject)| {
        let mut changed = statement("r-1");
        change(&mut changed.subject);
        review(&changed).err()
    };
    let other_address = |subject: &mut Subject| {
        let Subject::Request { params, .. } = subject else { return };
        *params = params.replace("bc1qexample", "bc1qevil");
    };
    let fewer_scopes = |subject: &mut Subject| {
        let Subject::Request { effective_scopes, .. } = subject else { return };
        *effective_scopes = [Scope::Read].into_iter().collect();
    };
    let own_host = |subject: &mut Subject| {
        let Subject::Request { host, .. } = subject else { return };
        *host = "evil.example".to_owned();
    };
    assert_eq!(with(&other_address), Some(Unlike::Transfers));
    assert_eq!(with(&fewer_scopes), Some(Unlike::Scopes));
    assert!(matches!(with(&own_host), Some(Unlike::Request(_))));
}
