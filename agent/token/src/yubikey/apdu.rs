//! The commands of the PIV applet that the agent uses, and the answers to them (NIST SP 800-73-4,
//! and Yubico's own).

use countersign_base::messages::yubikey::Slot;
use zeroize::Zeroizing;

/// Longest piece of a command's data, in bytes.
const PIECE: usize = 255;
/// The class of a command of which more pieces follow.
const CHAINED: u8 = 0x10;

const PIV: [u8; 5] = [0xa0, 0, 0, 3, 8];
const PIN: u8 = 0x80;
/// The reference of the PIN, by which its metadata are requested.
pub(crate) const PIN_REFERENCE: u8 = PIN;
/// The reference of the management key.
pub(crate) const MANAGEMENT_KEY: u8 = 0x9b;
const LONGEST_CARD_PIN: usize = 8;
const ATTESTATION_CERTIFICATE: [u8; 5] = [0x5c, 3, 0x5f, 0xff, 1];
/// The object that PIV calls printed information. A management key can be kept in it behind the
/// PIN.
const PROTECTED_DATA: [u8; 5] = [0x5c, 3, 0x5f, 0xc1, 9];

const DYNAMIC_AUTHENTICATION: u8 = 0x7c;
const RESPONSE: u8 = 0x82;
const CHALLENGE: u8 = 0x81;
const EXPONENTIATION: u8 = 0x85;

/// A command. Its data are wiped, because they may be secret.
pub(crate) struct CommandApdu {
    instruction: u8,
    p1: u8,
    p2: u8,
    data: Zeroizing<Vec<u8>>,
}

/// The answer to a command, with its pieces joined.
pub(crate) struct ResponseApdu {
    pub(crate) status: u16,
    pub(crate) data: Zeroizing<Vec<u8>>,
}

impl CommandApdu {
    fn new(instruction: u8, p1: u8, p2: u8, data: &[u8]) -> Self {
        Self { instruction, p1, p2, data: Zeroizing::new(data.to_vec()) }
    }

    pub(crate) fn select() -> Self {
        Self::new(0xa4, 0x04, 0, &PIV)
    }

    pub(crate) fn version() -> Self {
        Self::new(0xfd, 0, 0, &[])
    }

    pub(crate) fn serial() -> Self {
        Self::new(0xf8, 0, 0, &[])
    }

    pub(crate) fn metadata(reference: u8) -> Self {
        Self::new(0xf7, 0, reference, &[])
    }

    pub(crate) fn attest(slot: Slot) -> Self {
        Self::new(0xf9, slot.number(), 0, &[])
    }

    pub(crate) fn attestation_certificate() -> Self {
        Self::new(0xcb, 0x3f, 0xff, &ATTESTATION_CERTIFICATE)
    }

    pub(crate) fn protected_data() -> Self {
        Self::new(0xcb, 0x3f, 0xff, &PROTECTED_DATA)
    }

    /// Verifies a PIN. `None` if it does not have 1 to 8 bytes: an empty one would only ask for the
    /// number of attempts, and no PIN is longer.
    pub(crate) fn verify(pin: &[u8]) -> Option<Self> {
        if !(1..=LONGEST_CARD_PIN).contains(&pin.len()) {
            return None;
        }
        let mut command = Self::new(0x20, 0, PIN, &[0xff; LONGEST_CARD_PIN]);
        command.data[..pin.len()].copy_from_slice(pin);
        Some(command)
    }

    pub(crate) fn sign(algorithm: u8, slot: Slot, input: &[u8]) -> Self {
        Self::private_key(algorithm, slot, CHALLENGE, input)
    }

    pub(crate) fn agree(algorithm: u8, slot: Slot, point: &[u8]) -> Self {
        Self::private_key(algorithm, slot, EXPONENTIATION, point)
    }

    fn private_key(algorithm: u8, slot: Slot, tag: u8, input: &[u8]) -> Self {
        let asked = [wrap(RESPONSE, &[]), wrap(tag, input)].concat();
        Self::new(0x87, algorithm, slot.number(), &wrap(DYNAMIC_AUTHENTICATION, &asked))
    }

    /// The pieces of the command, in the form in which they are sent.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
        let count = self.data.len().div_ceil(PIECE).max(1);
        (0..count).map(move |index| {
            let piece = &self.data[index * PIECE..self.data.len().min((index + 1) * PIECE)];
            let class = if index + 1 < count { CHAINED } else { 0 };
            let mut bytes = Zeroizing::new(Vec::with_capacity(5 + piece.len()));
            bytes.extend([class, self.instruction, self.p1, self.p2]);
            if !piece.is_empty() {
                bytes.push(piece.len() as u8); // at most PIECE
                bytes.extend(piece);
            }
            bytes
        })
    }
}

/// The result of an operation with a private key.
pub(crate) fn dynamic_answer(answer: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let found = find(find(answer, DYNAMIC_AUTHENTICATION)?, RESPONSE)?;
    Some(Zeroizing::new(found.to_vec()))
}

/// A field with its tag and length (BER).
fn wrap(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![tag];
    match value.len() {
        short @ ..=0x7f => field.push(short as u8),
        medium @ ..=0xff => field.extend([0x81, medium as u8]),
        long => field.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    field.extend(value);
    field
}

/// The value of the first field with this tag of one byte; `None` if there is no such field, or the
/// fields make no sense.
pub(crate) fn find(mut fields: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [tag, rest @ ..] = fields {
        let (length, rest) = match rest {
            [short @ ..=0x7f, rest @ ..] => (usize::from(*short), rest),
            [0x81, length, rest @ ..] => (usize::from(*length), rest),
            [0x82, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
            _ => return None,
        };
        let value = rest.get(..length)?;
        if *tag == wanted {
            return Some(value);
        }
        fields = &rest[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_length_are_found_again() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 255, 1500, 3000] {
            let value = vec![7; length];
            let fields = [wrap(0x81, b"other"), wrap(0x82, &value)].concat();
            assert_eq!(find(&fields, 0x82), Some(&value[..]), "{length}");
            assert_eq!(find(&fields, 0x83), None);
            assert_eq!(
                find(&fields[..fields.len() - usize::from(length > 0)], 0x82).is_some(),
                length == 0
            );
        }
        for nonsense in
            [&[0x82][..], &[0x82, 0x80], &[0x82, 0x81], &[0x82, 0x83, 0, 0, 1, 7], &[0x82, 5, 1]]
        {
            assert_eq!(find(nonsense, 0x82), None, "{nonsense:?}");
        }
    }

    #[test]
    fn long_commands_go_in_pieces_and_a_pin_is_filled_up() {
        // The yubikey crate panics at a message of 255 bytes. Its buffer takes fewer bytes than the
        // longest one here.
        for length in [0, 32, 245, 255, 256, 1500, 3000] {
            let command = CommandApdu::sign(0xe0, Slot::AUTHENTICATION, &vec![7; length]);
            let pieces: Vec<_> = command.pieces().collect();
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece[5..].to_vec()).collect();
            assert_eq!(joined, *command.data, "{length}");
            for (index, piece) in pieces.iter().enumerate() {
                let last = index + 1 == pieces.len();
                assert_eq!(piece[..4], [if last { 0 } else { 0x10 }, 0x87, 0xe0, 0x9a]);
                assert_eq!(usize::from(piece[4]), piece.len() - 5);
                assert!(last || piece[4] == 255);
            }
        }
        let verify: Vec<_> = CommandApdu::verify(b"123456").expect("a PIN").pieces().collect();
        assert_eq!(verify.len(), 1);
        assert_eq!(verify[0][..], *b"\x00\x20\x00\x80\x08123456\xff\xff");
        assert!(CommandApdu::verify(b"").is_none() && CommandApdu::verify(b"123456789").is_none());
        assert_eq!(CommandApdu::version().pieces().next().expect("one")[..], [0, 0xfd, 0, 0]);
    }
}
