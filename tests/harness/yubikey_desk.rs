//! A virtual YubiKey in a reader of its own, behind a real pcscd.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use countersign_base::system::sys::LockedMemory;
use countersign_token::token::pin::Pin;
use countersign_token::token::pin_attempts::SourceIdentity;
use countersign_token::yubikey::{CardPin, YubiKey};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use virtual_yubikey::{Card, Firmware, Rig};
use yubikey::piv::{self, AlgorithmId, SlotId};
use yubikey::{MgmKey, PinPolicy, TouchPolicy};

use super::machine;

pub(crate) const SERIAL: u32 = 12_345_678;
pub(crate) const PIN: &str = "123456";
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A card in a reader of its own pcscd. Dropped in this order: the card is pulled out, the readers
/// go, the files go.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) card: Card,
    pub(crate) rig: Rig,
    pub(crate) directory: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new(firmware: Firmware) -> Self {
        machine::share();
        let directory =
            tempfile::Builder::new().prefix("countersign-yubikey").tempdir().expect("a directory");
        let rig =
            Rig::start(&directory.path().join("rig")).unwrap_or_else(|error| panic!("{error}"));
        let card = rig.insert(firmware, SERIAL).unwrap_or_else(|error| panic!("{error}"));
        Self { card, rig, directory }
    }

    /// Does `work` on a thread that sees the rig's pcscd and no other.
    #[expect(unsafe_code, reason = "a thread's own root and working directory are no memory")]
    pub(crate) fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/mnt", self.rig.pid())).expect("the rig's");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: only descriptors can be pulled from under others, and they stay shared.
                unsafe { unshare_unsafe(UnshareFlags::FS) }.expect("a thread may");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
                    .expect("takes root");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Makes a key as another program would.
    pub(crate) fn generate(
        &self,
        slot: u8,
        algorithm: AlgorithmId,
        pin: PinPolicy,
        touch: TouchPolicy,
    ) {
        self.inside(move || {
            let mut yubikey = yubikey::YubiKey::open_by_serial(SERIAL.into()).expect("the card");
            let key = MgmKey::get_default(&yubikey).expect("a default");
            yubikey.authenticate(&key).expect("the default key");
            let slot = SlotId::try_from(slot).expect("a slot");
            piv::generate(&mut yubikey, slot, algorithm, pin, touch).expect("made");
        });
    }

    /// The PIN as the agent holds it, from a descriptor of this number.
    pub(crate) fn pin(&self, pin: &str, number: i32) -> Arc<CardPin> {
        let mut bytes = LockedMemory::with_capacity(8).expect("a page");
        assert!(bytes.append(pin.as_bytes()));
        let pin = Pin { bytes, source: SourceIdentity::Fd { number } };
        Arc::new(CardPin::new(pin, self.directory.path(), "yk"))
    }

    /// The agent's adapter for the card. Use it inside the rig.
    pub(crate) fn yubikey(&self) -> YubiKey {
        YubiKey::new(SERIAL)
    }
}
