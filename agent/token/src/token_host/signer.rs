//! Signs with one session of its own. After any error that session is dropped and a new one is
//! opened.

use std::sync::Arc;

use countersign_base::messages::token_host::{FromHost, HostError, Passphrase};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::catalogue::SigningKey;
use crate::token::fault::Fault;
use crate::token::mechanism::LONGEST_SIGNATURE;
use crate::token::pkcs11::Pkcs11Token;

/// The session of one thread. It is never shared: a second C_SignInit on a session fails while the
/// first is under way.
#[derive(Debug)]
pub struct SigningSession {
    token: Arc<Pkcs11Token>,
    session: Session,
}

impl SigningSession {
    pub fn open(token: Arc<Pkcs11Token>) -> Result<Self, Fault> {
        let session = token.open_session()?;
        Ok(Self { token, session })
    }

    /// One signature over `message`.
    pub fn sign(&mut self, key: &SigningKey, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let input = key.mechanism.input(message);
        if self.token.profile().max_message.is_some_and(|longest| input.len() > longest) {
            let reason = format!("a message of {} bytes is too long for the token", input.len());
            return Err(Fault::passing(HostError::Unsupported {
                algorithm: key.algorithm(),
                reason,
            }));
        }
        let signature = self.sign_raw(key.mechanism.kind(), key.handle(), &input)?;
        if !key.mechanism.fits(signature.len()) {
            let what = format!(
                "a signature of {} bytes, which {} never has",
                signature.len(),
                key.algorithm()
            );
            return Err(Fault::broken(HostError::Token(what)));
        }
        Ok(signature)
    }

    /// One C_Sign over `input` as it is.
    pub fn sign_raw(
        &mut self,
        mechanism: MechanismType,
        key: ObjectHandle,
        input: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let mut signature = [0; LONGEST_SIGNATURE];
        match self.token.calls().sign(&self.session, mechanism, key, input, &mut signature) {
            Ok(length) => Ok(signature[..length].to_vec()),
            Err(code) => Err(self.renew_session(Fault::of_code(code, "C_Sign"))),
        }
    }

    /// Makes a cheap call, only so that the token does not drop the session as unused.
    pub fn keep_alive(&mut self) -> Result<(), Fault> {
        let mut random = [0; 8];
        match self.session.generate_random_slice(&mut random) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.renew_session(error.into())),
        }
    }

    /// Replaces the session after any error, because an operation may be left under way in it. If
    /// no new session can be opened, only a new process helps.
    fn renew_session(&mut self, fault: Fault) -> Fault {
        match self.token.open_session() {
            Ok(session) => {
                self.session = session;
                fault
            }
            Err(_) => Fault::broken(fault.error),
        }
    }
}

/// Signs one request and makes the answer to it.
pub(crate) fn sign(
    signer: &mut SigningSession,
    id: u64,
    key: &SigningKey,
    message: &[u8],
) -> Result<FromHost, Fault> {
    let signature = signer.sign(key, message)?;
    let passphrase =
        key.passphrase().map(|passphrase| Passphrase(Zeroizing::new(passphrase.to_owned())));
    Ok(FromHost::Signed { id, signature, passphrase })
}
