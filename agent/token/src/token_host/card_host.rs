//! The token host of a YubiKey. It makes one signature at a time, each with a touch, and carries
//! out other requests meanwhile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use countersign_base::messages::frame::{self, Frames, MessageFrameError};
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::{FromHost, HostError, ToHost, TokenFacts};
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::{confine, sys};
use countersign_core::algorithm::Algorithm;
use zeroize::Zeroizing;

use crate::yubikey::card_login::{CardLogin, log_in};
use crate::yubikey::records::YubiKeyRecord;
use crate::yubikey::{self, CardError, CardPin, SlotTouchPolicy, YubiKey, YubiKeyFacts};

/// Serves the front until it asks the host to end, or is gone.
pub(crate) fn serve(
    settings: &TokenSettings,
    stream: &mut UnixStream,
    frames: &mut Frames,
) -> Result<(), HostError> {
    let login = log_in(settings, None)?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    confine::leave_terminal();
    // The signals are blocked and never read: the front decides when its hosts end, not a signal to
    // the whole service.
    let _signals = sys::termination_signals().map_err(HostError::unprotected)?;
    let writer = stream
        .try_clone()
        .map_err(|error| HostError::Token(format!("a front that is gone: {error}")))?;
    let mut host = CardHost {
        keys: BTreeMap::new(),
        busy: Arc::default(),
        final_error: Arc::default(),
        writer: Arc::new(Mutex::new(writer)),
        login,
    };
    host.rescan()?;
    host.announce()?;
    loop {
        while let Some(message) = frames.take().map_err(unreadable)? {
            if matches!(message, ToHost::Stop) {
                return Ok(());
            }
            host.handle(message)?;
        }
        if !frames.fill(stream).map_err(unreadable)? {
            let ended = host.final_error.lock().unwrap_or_else(PoisonError::into_inner).take();
            return ended.map_or(Ok(()), Err);
        }
    }
}

struct CardHost {
    login: CardLogin,
    keys: BTreeMap<String, Arc<YubiKeyRecord>>,
    /// True while a signature is under way, which may wait for a touch.
    busy: Arc<AtomicBool>,
    /// The error of a signature that ends this host for good.
    final_error: Arc<Mutex<Option<HostError>>>,
    /// Whole frames only: each write is made under the lock.
    writer: Arc<Mutex<UnixStream>>,
}

impl CardHost {
    fn announce(&self) -> Result<(), HostError> {
        let YubiKeyFacts { serial, firmware: [major, minor, patch] } = self.login.facts;
        let token = TokenFacts {
            label: format!("YubiKey {serial}"),
            manufacturer: "Yubico".to_owned(),
            model: format!("firmware {major}.{minor}.{patch}"),
            serial: serial.to_string(),
        };
        answer(
            &self.writer,
            &FromHost::Ready { token, keys: self.describe(), limits: self.login.limits.clone() },
        )
    }

    fn describe(&self) -> Vec<countersign_base::messages::token_host::HostedKey> {
        self.keys.values().map(|record| record.describe()).collect()
    }

    fn handle(&mut self, message: ToHost<'_>) -> Result<(), HostError> {
        match message {
            ToHost::Rescan => {
                self.rescan()?;
                answer(&self.writer, &FromHost::Keys(self.describe()))
            }
            ToHost::SelfTest { id } => {
                let tested = match self.self_test() {
                    Ok(()) => FromHost::SelfTested { id },
                    Err(error) => FromHost::Failed { id, error: error.into() },
                };
                answer(&self.writer, &tested)
            }
            ToHost::Sign { id, key, algorithm, message } => {
                self.sign(id, key, algorithm, message.0)
            }
            ToHost::Stop => Ok(()),
        }
    }

    /// Answers with the recorded keys whose slots hold them. While the YubiKey is away, with all
    /// recorded keys.
    fn rescan(&mut self) -> Result<(), HostError> {
        let records = self.login.records.all()?;
        let slots: Vec<Slot> = records.iter().map(|record| record.slot).collect();
        // If another program resets the YubiKey, or it is away for a moment, that says nothing
        // about its keys.
        let held = (!self.busy.load(Ordering::Acquire))
            .then(|| self.login.yubikey.keys(slots).ok())
            .flatten();
        let there = |record: &YubiKeyRecord| {
            let Some(held) = &held else { return true };
            let der = record.public_key_der();
            let same = |key: &yubikey::SlotKey| {
                key.slot == record.slot
                    && key.touch == SlotTouchPolicy::Always
                    && key.public_key.to_der() == der
            };
            held.iter().any(same)
        };
        self.keys.clear();
        for record in records {
            if there(&record) {
                self.keys.insert(record.name.clone(), Arc::new(record));
            } else {
                tracing::warn!(key = record.name, slot = %record.slot, "the slot does not hold \
                    this key: it is not used");
            }
        }
        Ok(())
    }

    /// Checks that the YubiKey is there. This takes no touch, and does not disturb one.
    fn self_test(&self) -> Result<(), CardError> {
        if self.busy.load(Ordering::Acquire) { Ok(()) } else { self.login.yubikey.check_presence() }
    }

    fn sign(
        &self,
        id: u64,
        name: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<(), HostError> {
        let failed = |error| answer(&self.writer, &FromHost::Failed { id, error });
        let Some(record) = self.keys.get(name) else {
            return failed(HostError::KeyUnknown(name.to_owned()));
        };
        if record.algorithm != algorithm {
            let reason = format!("it is a key for {}", record.algorithm);
            return failed(HostError::Unsupported { algorithm, reason });
        }
        if self.busy.swap(true, Ordering::AcqRel) {
            return failed(HostError::Card(
                "the YubiKey waits for the touch of another request; ask again".to_owned(),
            ));
        }
        let job = CardJob {
            id,
            yubikey: self.login.yubikey.clone(),
            pin: Arc::clone(&self.login.pin),
            record: Arc::clone(record),
            message: message.to_vec(),
            busy: Arc::clone(&self.busy),
            final_error: Arc::clone(&self.final_error),
            writer: Arc::clone(&self.writer),
        };
        let thread = thread::Builder::new().name("signer".to_owned());
        let started = thread.spawn(move || job.run());
        started
            .map(drop)
            .map_err(|error| HostError::Token(format!("no thread to sign with: {error}")))
    }
}

/// One signature.
struct CardJob {
    id: u64,
    yubikey: YubiKey,
    pin: Arc<CardPin>,
    record: Arc<YubiKeyRecord>,
    message: Vec<u8>,
    busy: Arc<AtomicBool>,
    final_error: Arc<Mutex<Option<HostError>>>,
    writer: Arc<Mutex<UnixStream>>,
}

impl CardJob {
    fn run(self) {
        let id = self.id;
        let signed = self.sign();
        self.busy.store(false, Ordering::Release);
        let said = match signed {
            Ok(signature) => {
                answer(&self.writer, &FromHost::Signed { id, signature, passphrase: None })
            }
            Err(error) => {
                let said = answer(&self.writer, &FromHost::Failed { id, error: error.clone() });
                if error.is_final() {
                    *self.final_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    self.hang_up();
                }
                said
            }
        };
        if said.is_err() {
            self.hang_up();
        }
    }

    /// Ends the main loop.
    fn hang_up(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.shutdown(std::net::Shutdown::Read);
    }

    /// Makes a signature. It is given out only if it verifies with the enrolled key.
    fn sign(&self) -> Result<Vec<u8>, HostError> {
        let YubiKeyRecord { slot, algorithm, .. } = *self.record;
        let missing = || HostError::KeyUnknown(self.record.name.clone());
        let public_key = self.record.public_key().ok_or_else(missing)?;
        // The slot is checked before the touch: nobody should touch for another key than the
        // enrolled one.
        let held = self.yubikey.keys(vec![slot])?.pop().ok_or(CardError::NoKey(slot))?;
        if held.public_key.to_der() != self.record.public_key_der() {
            return Err(HostError::Card(format!(
                "slot {slot} holds another key than the enrolled one"
            )));
        }
        let (id, writer) = (self.id, Arc::clone(&self.writer));
        // If the front is gone, that is noticed when the signature is handed over.
        let on_blink = Box::new(move || drop(answer(&writer, &FromHost::Blinking { id })));
        let signature = self.yubikey.sign(slot, algorithm, &self.message, &self.pin, on_blink)?;
        if !public_key.verifies(&self.message, &signature) {
            return Err(HostError::Card(format!(
                "slot {slot} signed with another key than the enrolled one"
            )));
        }
        Ok(signature)
    }
}

fn answer(writer: &Mutex<UnixStream>, message: &FromHost) -> Result<(), HostError> {
    let mut out = Zeroizing::new(Vec::new());
    frame::encode(message, &mut out).map_err(unreadable)?;
    let written = writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&out);
    written.map_err(|error| HostError::Token(format!("a front that is gone: {error}")))
}

fn unreadable(error: MessageFrameError) -> HostError {
    HostError::Token(format!("a front that cannot be understood: {error}"))
}
