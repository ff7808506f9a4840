//! Connects to one YubiKey, for one transaction, on a thread of its own.
//!
//! While another program is in a transaction, pcscd's client waits until that ends, and nothing
//! else ends the wait. So an operation is done on a thread that can be left behind. Once it was
//! given up, the thread does nothing with the YubiKey any more.

use std::ffi::CString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use countersign_base::messages::yubikey::{BUSY_DEADLINE, Slot};
use pcsc::{
    Card, Context, Disposition, Protocols, ReaderState, Scope, ShareMode, State, Transaction,
};
use zeroize::Zeroizing;

use super::apdu::{CommandApdu, MANAGEMENT_KEY, ResponseApdu, find};
use super::error::CardError;
use super::slot::SlotKey;
use super::{LastReader, ManagementKey, VERIFIED, YubiKeyFacts, YubiKeyShared};

/// Oldest firmware that is used. It was the first one with metadata, which show touch policies and
/// count attempts.
const OLDEST_FIRMWARE: [u8; 3] = [5, 3, 0];
/// Longest answer to one piece of a command, in bytes: 256 and a status.
const LONGEST_RESPONSE: usize = 258;
/// Longest answer with all its pieces, in bytes. The longest ones are certificates.
const LONGEST_JOINED: usize = 16 * 1024;
/// Most connections to a card that other programs reset again and again, before any work was done
/// with it.
const CONNECTS: u32 = 10;
/// Most threads that may wait for other programs' transactions. If so many wait, no new operation
/// begins.
const MOST_LEFT_BEHIND: usize = 4;

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

const NO_KEY: [u16; 2] = [0x6a88, 0x6a82];
const MORE: u8 = 0x61;
/// The card does not know the instruction. We use only instructions of the PIV applet, so the
/// applet is no longer selected.
const NOT_SELECTED: u16 = 0x6d00;
const GET_RESPONSE: [u8; 5] = [0, 0xc0, 0, 0, 0];

/// The YubiKey with its PIV applet selected. No other program can use it until this is dropped.
pub(crate) struct OpenCard<'card> {
    transaction: Transaction<'card>,
    facts: YubiKeyFacts,
}

/// The state of an operation, which both threads see.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Waiting,
    Begun,
    GivenUp,
}

/// Does `work` with the YubiKey, or says why the YubiKey cannot be used.
pub(crate) fn with<R: Send + 'static>(
    yubikey: &Arc<YubiKeyShared>,
    work: impl FnOnce(&OpenCard<'_>) -> Result<R, CardError> + Send + 'static,
) -> Result<R, CardError> {
    if LEFT_BEHIND.load(Ordering::Relaxed) >= MOST_LEFT_BEHIND {
        return Err(CardError::Held);
    }
    let phase = Arc::new(Mutex::new(Phase::Waiting));
    let (result, received) = channel();
    let operation = Operation { yubikey: Arc::clone(yubikey), phase: Arc::clone(&phase), result };
    let thread = thread::Builder::new().name("yubikey".to_owned());
    thread
        .spawn(move || operation.run(work))
        .map_err(|_| CardError::Pcsc(pcsc::Error::NoMemory))?;
    if let Ok(result) = received.recv_timeout(BUSY_DEADLINE) {
        return result;
    }
    {
        let mut phase = locked(&phase);
        if *phase == Phase::Waiting {
            *phase = Phase::GivenUp;
            LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
            return Err(CardError::Held);
        }
    }
    // The operation has begun. From here on it ends by the YubiKey's own time-out, or when the
    // connection to it ends.
    received.recv().unwrap_or(Err(CardError::NoService))
}

struct Operation<R> {
    yubikey: Arc<YubiKeyShared>,
    phase: Arc<Mutex<Phase>>,
    result: Sender<Result<R, CardError>>,
}

impl<R> Operation<R> {
    fn run(self, work: impl FnOnce(&OpenCard<'_>) -> Result<R, CardError>) {
        let result = self.find(work);
        if *locked(&self.phase) == Phase::GivenUp {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
        }
        // A caller that gave up does not listen.
        let _ = self.result.send(result);
    }

    fn find(
        &self,
        work: impl FnOnce(&OpenCard<'_>) -> Result<R, CardError>,
    ) -> Result<R, CardError> {
        let context = Context::establish(Scope::System)?;
        let mut work = Some(work);
        let (mut held, mut found) = (None, Vec::new());
        for reader in self.readers(&context)? {
            match self.look(&context, &reader, &mut work) {
                Ok(ReaderFinding::Done(result)) => return result,
                Ok(ReaderFinding::Other(serial)) => found.push(serial),
                Err(CardError::NoService) => return Err(CardError::NoService),
                // There is no card in this reader, or another kind of card.
                Err(CardError::Unplugged | CardError::Nonsense(_) | CardError::Status { .. }) => {}
                Err(error) => held = Some(error),
            }
        }
        Err(held.unwrap_or(CardError::NoSuchYubiKey { wanted: self.yubikey.serial, found }))
    }

    /// The readers with a YubiKey's name. The reader that held it last comes first.
    fn readers(&self, context: &Context) -> Result<Vec<CString>, CardError> {
        let mut readers = match context.list_readers_owned() {
            Ok(readers) => readers,
            Err(pcsc::Error::NoReadersAvailable) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        readers.retain(|reader| reader.to_string_lossy().to_ascii_lowercase().contains("yubi"));
        let last =
            self.yubikey.last_reader().as_ref().map(|last_reader| last_reader.reader.clone());
        readers.sort_by_key(|reader| Some(reader) != last.as_ref());
        Ok(readers)
    }

    fn look<W: FnOnce(&OpenCard<'_>) -> Result<R, CardError>>(
        &self,
        context: &Context,
        reader: &CString,
        work: &mut Option<W>,
    ) -> Result<ReaderFinding<R>, CardError> {
        let mut last = CardError::Reset;
        for _ in 0..CONNECTS {
            let events = events(context, reader)?;
            let connected =
                context.connect(reader, ShareMode::Shared, Protocols::ANY).map_err(CardError::from);
            let looked = connected.and_then(|mut card| {
                let looked = self.look_at(&mut card, work);
                leave(card);
                looked
            });
            match looked {
                // No work was done with the YubiKey yet, so it can be tried again. During another
                // program's reset it is there without power, and after it with power again.
                Err(error @ (CardError::Reset | CardError::Unplugged)) if work.is_some() => {
                    last = error
                }
                Ok(ReaderFinding::Done(result)) => {
                    *self.yubikey.last_reader() =
                        Some(LastReader { reader: reader.clone(), events });
                    return Ok(ReaderFinding::Done(result));
                }
                other => return other,
            }
        }
        Err(last)
    }

    fn look_at<W: FnOnce(&OpenCard<'_>) -> Result<R, CardError>>(
        &self,
        card: &mut Card,
        work: &mut Option<W>,
    ) -> Result<ReaderFinding<R>, CardError> {
        let open = OpenCard::begin(card)?;
        if open.facts.serial != self.yubikey.serial {
            return Ok(ReaderFinding::Other(open.facts.serial));
        }
        if open.facts.firmware < OLDEST_FIRMWARE {
            return Ok(ReaderFinding::Done(Err(CardError::Firmware(open.facts.firmware))));
        }
        if !self.begin() {
            return Err(CardError::Held);
        }
        let work = work.take().ok_or(CardError::Held)?;
        Ok(ReaderFinding::Done(work(&open)))
    }

    /// Begins the operation; false if the caller has given up.
    fn begin(&self) -> bool {
        let mut phase = locked(&self.phase);
        if *phase == Phase::Waiting {
            *phase = Phase::Begun;
        }
        *phase == Phase::Begun
    }
}

/// The result of looking into one reader.
enum ReaderFinding<R> {
    Done(Result<R, CardError>),
    /// A YubiKey with another serial.
    Other(u32),
}

impl<'card> OpenCard<'card> {
    fn begin(card: &'card mut Card) -> Result<Self, CardError> {
        // A card that is powered up just now, after another program reset it, may have no protocol
        // yet. `transmit` would panic then.
        if card.status2_owned()?.protocol2().is_none() {
            return Err(CardError::Reset);
        }
        let mut open = Self {
            transaction: card.transaction()?,
            facts: YubiKeyFacts { serial: 0, firmware: [0; 3] },
        };
        open.select()?;
        let firmware = open.expect("its version", &CommandApdu::version())?;
        let serial = open.expect("its serial", &CommandApdu::serial())?;
        let unreadable = |_| CardError::Nonsense("a version and a serial");
        open.facts = YubiKeyFacts {
            firmware: firmware[..].try_into().map_err(unreadable)?,
            serial: u32::from_be_bytes(serial[..].try_into().map_err(unreadable)?),
        };
        Ok(open)
    }

    /// Selects the PIV applet. The YubiKey then forgets a PIN that was verified.
    pub(crate) fn select(&self) -> Result<(), CardError> {
        self.expect("the selection of its PIV applet", &CommandApdu::select()).map(drop)
    }

    pub(crate) fn facts(&self) -> YubiKeyFacts {
        self.facts
    }

    /// The key in a slot; `None` if the slot is empty. A key of a kind that the agent does not use
    /// is an error.
    pub(crate) fn slot_key(&self, slot: Slot) -> Result<Option<SlotKey>, CardError> {
        let ResponseApdu { status, data } = self.command(&CommandApdu::metadata(slot.number()))?;
        match status {
            VERIFIED => SlotKey::parse(slot, &data)
                .map(Some)
                .ok_or(CardError::Nonsense("a key that is used here")),
            status if NO_KEY.contains(&status) => Ok(None),
            status => Err(CardError::Status { doing: "GET METADATA", status }),
        }
    }

    pub(crate) fn is_empty(&self, slot: Slot) -> Result<bool, CardError> {
        match self.command(&CommandApdu::metadata(slot.number()))?.status {
            VERIFIED => Ok(false),
            status if NO_KEY.contains(&status) => Ok(true),
            status => Err(CardError::Status { doing: "GET METADATA", status }),
        }
    }

    /// The management key. The PIN must be verified.
    pub(crate) fn management_key(&self) -> Result<ManagementKey, CardError> {
        let metadata =
            self.expect("its management key's metadata", &CommandApdu::metadata(MANAGEMENT_KEY))?;
        let Some(&[algorithm]) = find(&metadata, 0x01) else {
            return Err(CardError::Nonsense("a management key"));
        };
        let ResponseApdu { status, data } = self.command(&CommandApdu::protected_data())?;
        let kept = || find(find(find(&data, 0x53)?, 0x88)?, 0x89);
        let protected = if status == VERIFIED { kept() } else { None };
        Ok(ManagementKey {
            algorithm,
            is_default: find(&metadata, 0x05) == Some(&[1]),
            protected: protected.map(|key| Zeroizing::new(key.to_vec())),
        })
    }

    pub(crate) fn attest(&self, slot: Slot) -> Result<Vec<u8>, CardError> {
        self.expect("the attestation of a key that was made in it", &CommandApdu::attest(slot))
            .map(|data| data.to_vec())
    }

    pub(crate) fn attestation_certificate(&self) -> Result<Vec<u8>, CardError> {
        let object =
            self.expect("its attestation certificate", &CommandApdu::attestation_certificate())?;
        // The answer is an object with the certificate, its encoding and a check value.
        let certificate = find(&object, 0x53).and_then(|object| find(object, 0x70));
        certificate.map(<[u8]>::to_vec).ok_or(CardError::Nonsense("an attestation certificate"))
    }

    /// The data of an answer without error.
    pub(crate) fn expect(
        &self,
        doing: &'static str,
        command: &CommandApdu,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        match self.command(command)? {
            ResponseApdu { status: VERIFIED, data } => Ok(data),
            ResponseApdu { status, .. } => Err(CardError::Status { doing, status }),
        }
    }

    /// Sends a command in as many pieces as needed, and joins the pieces of the answer.
    pub(crate) fn command(&self, command: &CommandApdu) -> Result<ResponseApdu, CardError> {
        let mut answer = ResponseApdu { status: VERIFIED, data: Zeroizing::default() };
        for piece in command.pieces() {
            if answer.status != VERIFIED {
                return Ok(answer);
            }
            answer = self.transmit(&piece)?;
        }
        // The buffer is never moved, because the answer may be a secret.
        let mut data = Zeroizing::new(Vec::with_capacity(LONGEST_JOINED));
        data.extend_from_slice(&answer.data);
        while answer.status.to_be_bytes()[0] == MORE
            && data.len() + LONGEST_RESPONSE <= LONGEST_JOINED
        {
            answer = self.transmit(&GET_RESPONSE)?;
            data.extend_from_slice(&answer.data);
        }
        Ok(ResponseApdu { status: answer.status, data })
    }

    fn transmit(&self, bytes: &[u8]) -> Result<ResponseApdu, CardError> {
        let mut buffer = Zeroizing::new([0; LONGEST_RESPONSE]);
        let answer = self.transaction.transmit(bytes, &mut buffer[..])?;
        // Some readers give an empty answer if the card is gone.
        let (data, status) = answer.split_last_chunk::<2>().ok_or(CardError::Unplugged)?;
        let status = u16::from_be_bytes(*status);
        // Until the serial is known, this may be another kind of card.
        if status == NOT_SELECTED && self.facts.serial != 0 {
            return Err(CardError::Reset);
        }
        Ok(ResponseApdu { status, data: Zeroizing::new(data.to_vec()) })
    }
}

/// True if no card came or went in its reader since the YubiKey was last seen there.
pub(crate) fn is_where_it_was(yubikey: &YubiKeyShared) -> bool {
    let Some(last_reader) = yubikey.last_reader().clone() else { return false };
    let counted =
        Context::establish(Scope::System).and_then(|context| events(&context, &last_reader.reader));
    counted.is_ok_and(|counted| counted == last_reader.events)
}

/// The number of cards that came and went in a reader. An error if no card is in it now.
fn events(context: &Context, reader: &CString) -> Result<u32, pcsc::Error> {
    let mut states = [ReaderState::new(reader.clone(), State::UNAWARE)];
    context.get_status_change(Duration::ZERO, &mut states)?;
    let [state] = &states;
    if state.event_state().contains(State::PRESENT) {
        Ok(state.event_count())
    } else {
        Err(pcsc::Error::NoSmartcard)
    }
}

/// Ends a connection without a reset. A reset would take the YubiKey from other programs in the
/// middle of their work.
fn leave(card: Card) {
    // If this fails, the card is gone, or is reset when the connection is dropped.
    let _ = card.disconnect(Disposition::LeaveCard);
}

fn locked(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
