//! The self-test of a token: a key of the host's own, which exists only in its session, proves that
//! the token still works.

use countersign_base::messages::token_host::HostError;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::catalogue;
use super::signer::SigningSession;
use crate::token::fault::Fault;
use crate::token::pkcs11::Pkcs11Token;

const MESSAGE: &[u8] = b"countersign self-test";
/// Length of the key, in bytes: one block of SHA-256, which no token finds too short.
const KEY_LENGTH: u64 = 64;

/// The question to the token at each self-test.
#[derive(Debug)]
pub enum SelfTest {
    /// A MAC, which must be the same as at the start.
    Mac { key: ObjectHandle, expected: Vec<u8> },
    /// Random bytes, if the token makes no session key for a MAC.
    Random,
}

impl SelfTest {
    /// Makes the key and takes the first answer as the expected one. Also proves that copies of
    /// keys stay inside.
    pub fn prepare(
        token: &Pkcs11Token,
        keeper: &Session,
        signer: &mut SigningSession,
    ) -> Result<Self, Fault> {
        if !token.mechanisms().contains(&MechanismType::SHA256_HMAC) {
            return Ok(Self::Random);
        }
        let Some(key) = generate(keeper)? else { return Ok(Self::Random) };
        if token.profile().working_copy {
            catalogue::prove_that_copies_stay_inside(keeper, key)?;
        }
        let expected = signer.sign_raw(MechanismType::SHA256_HMAC, key, MESSAGE)?;
        Ok(Self::Mac { key, expected })
    }

    /// Fails if the token is gone, or computes another MAC than before.
    pub fn run(&self, token: &Pkcs11Token, signer: &mut SigningSession) -> Result<(), Fault> {
        // A module may compute from its memory long after its token is gone, so the token is asked
        // first.
        token.info()?;
        signer.keep_alive()?;
        let Self::Mac { key, expected } = self else { return Ok(()) };
        if signer.sign_raw(MechanismType::SHA256_HMAC, *key, MESSAGE)? == *expected {
            return Ok(());
        }
        Err(Fault::broken(HostError::Token(
            "another MAC than before for the same message and key".to_owned(),
        )))
    }
}

fn generate(session: &Session) -> Result<Option<ObjectHandle>, Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::ValueLen(KEY_LENGTH.into()),
    ];
    match session.generate_key(&Mechanism::GenericSecretKeyGen, &template) {
        Ok(key) => Ok(Some(key)),
        Err(Error::Pkcs11(
            RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::FunctionNotSupported
            | RvError::KeySizeRange
            | RvError::MechanismInvalid
            | RvError::TemplateInconsistent,
            _,
        )) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
