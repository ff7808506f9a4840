//! A connection to one YubiKey, in one transaction, on a thread of its own.
//!
//! pcscd's client waits for ever where another program is in a transaction, and nothing but the end
//! of that ends the wait. So an operation is done on a thread that can be left behind; it touches
//! nothing once it was given up.

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

use super::apdu::{Answered, Command, MANAGEMENT_KEY, find};
use super::error::CardError;
use super::slot::SlotKey;
use super::{Facts, ManagementKey, Place, Shared, VERIFIED};

/// Metadata, in which touch policies are read and tries counted, came with this firmware.
const OLDEST_FIRMWARE: [u8; 3] = [5, 3, 0];
/// The longest answer to one piece of a command: 256 bytes and a status.
const LONGEST_ANSWER: usize = 258;
/// All pieces of an answer together; a certificate is the longest of them.
const LONGEST_JOINED: usize = 16 * 1024;
/// A card that others reset before anything was done with it is connected to again, so often.
const CONNECTS: u32 = 10;
/// Threads that wait for other programs' transactions; where so many do, nothing more is begun.
const MOST_LEFT_BEHIND: usize = 4;

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

const NO_KEY: [u16; 2] = [0x6a88, 0x6a82];
const MORE: u8 = 0x61;
/// The instruction is not known. All that are used are the applet's, so it is no longer selected.
const NOT_SELECTED: u16 = 0x6d00;
const GET_RESPONSE: [u8; 5] = [0, 0xc0, 0, 0, 0];

/// The YubiKey with its PIV applet selected, and nobody else at it until this is gone.
pub(crate) struct Open<'card> {
    transaction: Transaction<'card>,
    facts: Facts,
}

/// How far an operation is, as both threads see it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Waiting,
    Begun,
    GivenUp,
}

/// Does `work` with the YubiKey, or says why it cannot be had.
pub(crate) fn with<R: Send + 'static>(
    yubikey: &Arc<Shared>,
    work: impl FnOnce(&Open<'_>) -> Result<R, CardError> + Send + 'static,
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
    // Begun: from here on the YubiKey's own time-out, or the end of the line to it, is the end.
    received.recv().unwrap_or(Err(CardError::NoService))
}

struct Operation<R> {
    yubikey: Arc<Shared>,
    phase: Arc<Mutex<Phase>>,
    result: Sender<Result<R, CardError>>,
}

impl<R> Operation<R> {
    fn run(self, work: impl FnOnce(&Open<'_>) -> Result<R, CardError>) {
        let result = self.find(work);
        if *locked(&self.phase) == Phase::GivenUp {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
        }
        // Whoever gave up does not listen.
        let _ = self.result.send(result);
    }

    fn find(&self, work: impl FnOnce(&Open<'_>) -> Result<R, CardError>) -> Result<R, CardError> {
        let context = Context::establish(Scope::System)?;
        let mut work = Some(work);
        let (mut held, mut found) = (None, Vec::new());
        for reader in self.readers(&context)? {
            match self.look(&context, &reader, &mut work) {
                Ok(Look::Done(result)) => return result,
                Ok(Look::Other(serial)) => found.push(serial),
                Err(CardError::NoService) => return Err(CardError::NoService),
                // No card, or another kind of card, in this reader.
                Err(CardError::Unplugged | CardError::Nonsense(_) | CardError::Status { .. }) => {}
                Err(error) => held = Some(error),
            }
        }
        Err(held.unwrap_or(CardError::NoSuchYubiKey { wanted: self.yubikey.serial, found }))
    }

    /// Readers with a YubiKey's name, the last one first.
    fn readers(&self, context: &Context) -> Result<Vec<CString>, CardError> {
        let mut readers = match context.list_readers_owned() {
            Ok(readers) => readers,
            Err(pcsc::Error::NoReadersAvailable) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        readers.retain(|reader| reader.to_string_lossy().to_ascii_lowercase().contains("yubi"));
        let last = self.yubikey.place().as_ref().map(|place| place.reader.clone());
        readers.sort_by_key(|reader| Some(reader) != last.as_ref());
        Ok(readers)
    }

    fn look<W: FnOnce(&Open<'_>) -> Result<R, CardError>>(
        &self,
        context: &Context,
        reader: &CString,
        work: &mut Option<W>,
    ) -> Result<Look<R>, CardError> {
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
                // Before anything was done with it: what another program resets is there again, and
                // in the middle of that it is there without power.
                Err(error @ (CardError::Reset | CardError::Unplugged)) if work.is_some() => {
                    last = error
                }
                Ok(Look::Done(result)) => {
                    *self.yubikey.place() = Some(Place { reader: reader.clone(), events });
                    return Ok(Look::Done(result));
                }
                other => return other,
            }
        }
        Err(last)
    }

    fn look_at<W: FnOnce(&Open<'_>) -> Result<R, CardError>>(
        &self,
        card: &mut Card,
        work: &mut Option<W>,
    ) -> Result<Look<R>, CardError> {
        let open = Open::begin(card)?;
        if open.facts.serial != self.yubikey.serial {
            return Ok(Look::Other(open.facts.serial));
        }
        if open.facts.firmware < OLDEST_FIRMWARE {
            return Ok(Look::Done(Err(CardError::Firmware(open.facts.firmware))));
        }
        if !self.begin() {
            return Err(CardError::Held);
        }
        let work = work.take().ok_or(CardError::Held)?;
        Ok(Look::Done(work(&open)))
    }

    /// False where it was given up meanwhile.
    fn begin(&self) -> bool {
        let mut phase = locked(&self.phase);
        if *phase == Phase::Waiting {
            *phase = Phase::Begun;
        }
        *phase == Phase::Begun
    }
}

/// What was found in one reader.
enum Look<R> {
    Done(Result<R, CardError>),
    /// A YubiKey with another serial.
    Other(u32),
}

impl<'card> Open<'card> {
    fn begin(card: &'card mut Card) -> Result<Self, CardError> {
        // A card that is only now powered up, after another program reset it, may have no protocol
        // yet, over which `transmit` panics.
        if card.status2_owned()?.protocol2().is_none() {
            return Err(CardError::Reset);
        }
        let mut open =
            Self { transaction: card.transaction()?, facts: Facts { serial: 0, firmware: [0; 3] } };
        open.select()?;
        let firmware = open.expect("its version", &Command::version())?;
        let serial = open.expect("its serial", &Command::serial())?;
        let unreadable = |_| CardError::Nonsense("a version and a serial");
        open.facts = Facts {
            firmware: firmware[..].try_into().map_err(unreadable)?,
            serial: u32::from_be_bytes(serial[..].try_into().map_err(unreadable)?),
        };
        Ok(open)
    }

    /// Selects the PIV applet, which forgets a PIN that was verified.
    pub(crate) fn select(&self) -> Result<(), CardError> {
        self.expect("the selection of its PIV applet", &Command::select()).map(drop)
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    /// What a slot holds; nothing where it is empty. A kind of key that is not used is nonsense
    /// here.
    pub(crate) fn slot_key(&self, slot: Slot) -> Result<Option<SlotKey>, CardError> {
        let Answered { status, data } = self.command(&Command::metadata(slot.number()))?;
        match status {
            VERIFIED => SlotKey::parse(slot, &data)
                .map(Some)
                .ok_or(CardError::Nonsense("a key that is used here")),
            status if NO_KEY.contains(&status) => Ok(None),
            status => Err(CardError::Status { doing: "GET METADATA", status }),
        }
    }

    pub(crate) fn is_empty(&self, slot: Slot) -> Result<bool, CardError> {
        match self.command(&Command::metadata(slot.number()))?.status {
            VERIFIED => Ok(false),
            status if NO_KEY.contains(&status) => Ok(true),
            status => Err(CardError::Status { doing: "GET METADATA", status }),
        }
    }

    /// With the PIN verified.
    pub(crate) fn management_key(&self) -> Result<ManagementKey, CardError> {
        let metadata =
            self.expect("its management key's metadata", &Command::metadata(MANAGEMENT_KEY))?;
        let Some(&[algorithm]) = find(&metadata, 0x01) else {
            return Err(CardError::Nonsense("a management key"));
        };
        let Answered { status, data } = self.command(&Command::protected_data())?;
        let kept = || find(find(find(&data, 0x53)?, 0x88)?, 0x89);
        let protected = if status == VERIFIED { kept() } else { None };
        Ok(ManagementKey {
            algorithm,
            is_default: find(&metadata, 0x05) == Some(&[1]),
            protected: protected.map(|key| Zeroizing::new(key.to_vec())),
        })
    }

    pub(crate) fn attest(&self, slot: Slot) -> Result<Vec<u8>, CardError> {
        self.expect("the attestation of a key that was made in it", &Command::attest(slot))
            .map(|data| data.to_vec())
    }

    pub(crate) fn attestation_certificate(&self) -> Result<Vec<u8>, CardError> {
        let object =
            self.expect("its attestation certificate", &Command::attestation_certificate())?;
        // An object of the value, which holds the certificate, its encoding and a check.
        let certificate = find(&object, 0x53).and_then(|object| find(object, 0x70));
        certificate.map(<[u8]>::to_vec).ok_or(CardError::Nonsense("an attestation certificate"))
    }

    /// The data of an answer without error.
    pub(crate) fn expect(
        &self,
        doing: &'static str,
        command: &Command,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        match self.command(command)? {
            Answered { status: VERIFIED, data } => Ok(data),
            Answered { status, .. } => Err(CardError::Status { doing, status }),
        }
    }

    /// Sends a command in as many pieces as it takes, and joins the answer's.
    pub(crate) fn command(&self, command: &Command) -> Result<Answered, CardError> {
        let mut answer = Answered { status: VERIFIED, data: Zeroizing::default() };
        for piece in command.pieces() {
            if answer.status != VERIFIED {
                return Ok(answer);
            }
            answer = self.transmit(&piece)?;
        }
        // never moved: it may be a secret
        let mut data = Zeroizing::new(Vec::with_capacity(LONGEST_JOINED));
        data.extend_from_slice(&answer.data);
        while answer.status.to_be_bytes()[0] == MORE
            && data.len() + LONGEST_ANSWER <= LONGEST_JOINED
        {
            answer = self.transmit(&GET_RESPONSE)?;
            data.extend_from_slice(&answer.data);
        }
        Ok(Answered { status: answer.status, data })
    }

    fn transmit(&self, bytes: &[u8]) -> Result<Answered, CardError> {
        let mut buffer = Zeroizing::new([0; LONGEST_ANSWER]);
        let answer = self.transaction.transmit(bytes, &mut buffer[..])?;
        // Some readers answer with nothing for a card that is no longer there.
        let (data, status) = answer.split_last_chunk::<2>().ok_or(CardError::Unplugged)?;
        let status = u16::from_be_bytes(*status);
        // Before the serial is known, it may be another kind of card.
        if status == NOT_SELECTED && self.facts.serial != 0 {
            return Err(CardError::Reset);
        }
        Ok(Answered { status, data: Zeroizing::new(data.to_vec()) })
    }
}

/// True where no card came or went in the reader that held it since.
pub(crate) fn is_where_it_was(yubikey: &Shared) -> bool {
    let Some(place) = yubikey.place().clone() else { return false };
    let counted =
        Context::establish(Scope::System).and_then(|context| events(&context, &place.reader));
    counted.is_ok_and(|counted| counted == place.events)
}

/// How many cards came and went in a reader that has one now.
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

/// Ends a connection without a reset, which would take the YubiKey from other programs in the
/// middle of their work.
fn leave(card: Card) {
    // One that cannot be left is gone, or is reset when it is dropped.
    let _ = card.disconnect(Disposition::LeaveCard);
}

fn locked(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
