//! Tests what opens a sealed vault, and what does not.

use p256::pkcs8::EncodePublicKey;

use crate::vault::sealed::*;

struct Card {
    secret: SecretKey,
    serial: u32,
}

impl Card {
    fn new(serial: u32) -> Self {
        Self { secret: SecretKey::from_slice(&[serial as u8; 32]).expect("a scalar"), serial }
    }

    fn recipient(&self) -> Recipient {
        let der = self.secret.public_key().to_public_key_der().expect("encodes");
        let public_key = BASE64.encode(der.as_bytes());
        Recipient {
            name: format!("yk{}", self.serial),
            serial: self.serial,
            public_key,
            attestation: "PEM".to_owned(),
        }
    }

    fn open(&self, sealed: &Sealed) -> Result<SealedContents, NotOpened> {
        let point = PublicKey::from_sec1_bytes(&sealed.point_for(self.serial)?)
            .map_err(|_| NotOpened::Malformed)?;
        let agreed = ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), point.as_affine());
        sealed.open(self.serial, &(*agreed.raw_secret_bytes()).into())
    }
}

fn locked(text: &str) -> LockedMemory {
    let mut memory = LockedMemory::with_capacity(64).expect("a page");
    assert!(memory.append(text.as_bytes()));
    memory
}

fn contents(cards: &[&Card]) -> SealedContents {
    let terms = Terms {
        v: 1,
        agent: "agent-1".to_owned(),
        token: "vault".to_owned(),
        token_serial: "0011223344556677".to_owned(),
        policy_sha256: "ab".repeat(32),
        recipients: cards.iter().map(|card| card.recipient()).collect(),
        approvers: Vec::new(),
    };
    let spent = SpentMark { bytes: 7, sha256: "cd".repeat(32) };
    SealedContents {
        terms,
        pin: locked("the new PIN"),
        previous: Some(locked("the old PIN")),
        spent,
    }
}

#[test]
fn each_recipient_opens_it_and_nobody_else() {
    let (main, spare, other) = (Card::new(1), Card::new(2), Card::new(3));
    let sealed = contents(&[&main, &spare]).seal().expect("sealed");
    let sealed = Sealed::parse(&sealed.to_bytes()).expect("whole");
    for card in [&main, &spare] {
        let opened = card.open(&sealed).expect("opens");
        assert_eq!(opened.pin.as_bytes(), b"the new PIN");
        assert_eq!(opened.previous.expect("there").as_bytes(), b"the old PIN");
        assert_eq!((opened.terms, opened.spent.bytes), (sealed.terms.clone(), 7));
    }
    assert_eq!(other.open(&sealed).err(), Some(NotOpened::NoRecipient));
    let impostor = Card { serial: 1, ..other };
    assert_eq!(impostor.open(&sealed).err(), Some(NotOpened::Changed));
    let text = String::from_utf8(sealed.to_bytes()).expect("JSON");
    assert!(!text.contains("PIN"), "{text}");
}

#[test]
fn who_writes_files_adds_nobody_and_changes_no_term() {
    let (main, spare, mallory) = (Card::new(1), Card::new(2), Card::new(3));
    let sealed = contents(&[&main, &spare]).seal().expect("sealed");
    let others = contents(&[&mallory, &spare]).seal().expect("sealed");
    let changes: [&dyn Fn(&mut Sealed); 10] = [
        &|sealed| sealed.terms.recipients.swap(0, 1),
        &|sealed| {
            sealed.terms.recipients.swap(0, 1);
            sealed.shares.swap(0, 1);
        },
        &|sealed| sealed.terms.recipients[1] = mallory.recipient(),
        &|sealed| {
            sealed.terms.recipients.push(mallory.recipient());
            sealed.shares.push(others.shares[0].clone());
        },
        &|sealed| {
            sealed.terms.recipients.pop();
            sealed.shares.pop();
        },
        &|sealed| sealed.shares[1] = others.shares[1].clone(),
        &|sealed| sealed.body = others.body.clone(),
        &|sealed| sealed.terms.agent.push('x'),
        &|sealed| sealed.terms.token_serial.push('x'),
        &|sealed| sealed.terms.policy_sha256 = "ac".repeat(32),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = sealed.clone();
        change(&mut changed);
        for card in [&main, &mallory] {
            assert!(card.open(&changed).is_err(), "change {index}");
        }
    }
}

#[test]
fn no_byte_changes_unseen() {
    let (main, spare) = (Card::new(1), Card::new(2));
    let sealed = contents(&[&main, &spare]).seal().expect("sealed").to_bytes();
    for place in 0..sealed.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = sealed.clone();
            changed[place] ^= flip;
            let opened = Sealed::parse(&changed).and_then(|sealed| main.open(&sealed));
            assert!(opened.is_err(), "byte {place} ^ {flip:02x}");
        }
        assert!(Sealed::parse(&sealed[..place]).is_err());
    }
    assert!(Sealed::parse(&[&sealed[..], b" "].concat()).is_err());
}

#[test]
fn two_sealings_have_nothing_in_common() {
    let main = Card::new(1);
    let [one, two] = [(); 2].map(|()| contents(&[&main]).seal().expect("sealed"));
    assert!(one.shares[0].ephemeral != two.shares[0].ephemeral && one.body != two.body);
    assert_ne!(
        random_pin(255).expect("random").as_bytes(),
        random_pin(255).expect("random").as_bytes()
    );
    assert_eq!(random_pin(255).expect("random").as_bytes().len(), 48);
    assert_eq!(random_pin(32).expect("random").as_bytes().len(), 32);
}
