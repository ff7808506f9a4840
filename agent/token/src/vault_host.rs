//! The vault host: one process for one signature. It trusts nothing that the front says. It reads
//! the module, the YubiKey and the policy from `agent.toml` itself. It takes the request from the
//! text that the approvers signed, and the spent amounts from a record of its own.
//!
//! Judge → touch → judge the time → put on record → C_Login → C_Sign → log out → answer → another
//! PIN → exit.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_base::config::{self, Config, SystemFacts};
use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::vault_host::{SignedRequest, VaultReply, VaultRequest};
use countersign_base::system::{clock, confine, random};
use countersign_core::draft::Draft;
use countersign_core::policy::Policy;
use countersign_core::stamp::Stamp;
use countersign_core::vault::{Judged, judge};
use data_encoding::HEXLOWER;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::token::attempt::TokenLogin;
use crate::token::fault::Fault;
use crate::token::mechanism::{LONGEST_SIGNATURE, SigningMechanism};
use crate::token::objects::{self, Protection};
use crate::vault::open::{PreparedVault, Unsealed};
use crate::vault::spent_approvals::{SpentApproval, SpentApprovals};

/// Carries out the one request of `control`. False if something went wrong and the front was not
/// told.
pub fn run(
    control: OwnedFd,
    config_file: &Path,
    facts: &SystemFacts,
    front_writes: &[PathBuf],
) -> bool {
    let mut stream = UnixStream::from(control);
    let begun = Instant::now();
    let request: VaultRequest = match Frames::default().receive(&mut stream) {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(%error, "the front's request cannot be read");
            return false;
        }
    };
    let host = VaultHost { begun, request, config_file, facts, front_writes, stream: &stream };
    let refusal = match host.sign() {
        Ok(()) => return true,
        Err(HostError::TouchTooLate(reason)) => VaultReply::TouchTooLate(reason),
        Err(error) => VaultReply::Refused(error.to_string()),
    };
    frame::send(&mut stream, &refusal).is_ok()
}

struct VaultHost<'a> {
    begun: Instant,
    request: VaultRequest,
    config_file: &'a Path,
    facts: &'a SystemFacts,
    front_writes: &'a [PathBuf],
    stream: &'a UnixStream,
}

/// A signature, and the draft over which it was made.
struct Made {
    draft: Draft,
    signature_bytes: Vec<u8>,
    passphrase: Option<SecretString>,
    stamped_since_boot_ms: u64,
}

impl VaultHost<'_> {
    fn sign(self) -> Result<(), HostError> {
        confine::hide_memory().map_err(HostError::unprotected)?;
        confine::follow_parent().map_err(HostError::unprotected)?;
        confine::leave_terminal();
        let config = config::load_with(self.config_file, self.facts)
            .map_err(|error| HostError::refused("agent.toml", &error))?;
        let policy = &config.policy;
        let prepared = self.prepare(&config)?;
        let judged = self.judge(policy, &prepared)?;
        let mut spent = SpentApprovals::open(prepared.directory())
            .map_err(|error| HostError::Refused(error.to_string()))?;
        spent.admit(&entry(&judged)).map_err(|error| HostError::Refused(error.to_string()))?;
        let prepared_in = self.begun.elapsed();
        let unsealed = self.touch(prepared)?;
        let after_touch = Instant::now();
        judged
            .still_in_time(policy, clock::wall_ms())
            .map_err(|refusal| HostError::Refused(refusal.to_string()))?;
        let recorded =
            spent.check(&unsealed.contents.spent).and_then(|()| spent.add(entry(&judged)));
        recorded.map_err(|error| HostError::Refused(error.to_string()))?;
        // SoftHSM rewrites its files at C_Login and C_SetPIN. So from here on this process goes on
        // to its end, even if its parent dies.
        confine::outlive_parent().map_err(HostError::unprotected)?;
        let (login, closing) = unsealed.log_in()?;
        let signed = self.signature(&login, &judged);
        drop(login); // closes the last session, which logs out
        let own_share = prepared_in + after_touch.elapsed();
        let answered = match signed {
            Ok(signed) => self.answer(signed, own_share),
            Err(error) => Err(error),
        };
        // Even if there is no signature, this touch must not open anything more.
        let closed = closing.finish(None, spent.mark());
        if let Err(error) = &closed {
            tracing::error!(token = self.request.token, %error, "the vault's PIN was not changed");
        }
        answered
    }

    fn prepare(&self, config: &Config) -> Result<PreparedVault, HostError> {
        let token = config.tokens.iter().find(|token| token.settings.name == self.request.token);
        let token = token.filter(|token| token.settings.is_vault());
        let absent = || {
            HostError::Refused(format!("agent.toml has no vault named {:?}", self.request.token))
        };
        PreparedVault::new(
            &token.ok_or_else(absent)?.settings,
            self.front_writes,
            None,
            Some(&config.policy.sha256),
        )
    }

    fn judge(&self, policy: &Policy, prepared: &PreparedVault) -> Result<Judged, HostError> {
        let VaultRequest { token, statement, sshsigs, .. } = &self.request;
        judge(policy, &prepared.terms().agent, token, clock::wall_ms(), statement, sshsigs)
            .map_err(|refusal| HostError::Refused(refusal.to_string()))
    }

    fn touch(&self, prepared: PreparedVault) -> Result<Unsealed, HostError> {
        let writer =
            self.stream.try_clone().map_err(|error| HostError::refused("the front", &error))?;
        let (yubikey, writer) = (prepared.card().to_owned(), Mutex::new(writer));
        let writer = Arc::new(writer);
        prepared.touch(Box::new(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // If the front is gone, that is noticed when the signature is handed over.
            let _ = frame::send(&mut *writer, &VaultReply::Touch { yubikey });
        }))
    }

    /// Makes one C_Sign with the key that the approvers named, for the exchange and scopes for
    /// which it was enrolled.
    fn signature(&self, login: &TokenLogin, judged: &Judged) -> Result<Made, HostError> {
        let (name, session) = (judged.key_name(), &login.keeper);
        let unknown = || HostError::KeyUnknown(name.to_owned());
        let stored =
            objects::stored_record(session, name).map_err(HostError::from)?.ok_or_else(unknown)?;
        let record = stored.record;
        let (Some(enrolled), Some(api_key)) = (&record.enrolled_for, &record.api_key) else {
            return Err(unknown());
        };
        let algorithm = judged.algorithm();
        let profile = login.token.profile();
        let mechanism = SigningMechanism::choose(algorithm, profile, login.token.mechanisms());
        let mechanism = mechanism.filter(|_| record.algorithm == algorithm).ok_or_else(unknown)?;
        let key =
            objects::find_key(session, &record).map_err(HostError::from)?.ok_or_else(unknown)?;
        if !Protection::of(session, key).map_err(HostError::from)?.keeps_the_key() {
            return Err(HostError::Refused("the token could give this key away".to_owned()));
        }
        let receive_window_ms =
            judged.exchange().facts().receive_window.map(|window| window.default_ms);
        let (now_ms, stamped_since_boot_ms) = (clock::wall_ms(), clock::since_boot_ms());
        let nonce = self.request.nonce;
        let stamp = Stamp { now_ms, nonce, random: random::bytes(), receive_window_ms };
        let draft = judged.draft(enrolled, api_key, &stamp);
        let draft = draft.map_err(|refusal| HostError::Refused(refusal.to_string()))?;
        let mut signature = [0; LONGEST_SIGNATURE];
        let input = mechanism.input(&draft.message);
        let signed =
            login.token.calls().sign(session, mechanism.kind(), key, &input, &mut signature);
        let length = signed.map_err(|code| Fault::of_code(code, "C_Sign").error)?;
        let passphrase =
            record.passphrase.as_ref().map(|passphrase| SecretString::from(passphrase.as_str()));
        Ok(Made {
            draft,
            signature_bytes: signature[..length].to_vec(),
            passphrase,
            stamped_since_boot_ms,
        })
    }

    fn answer(&self, made: Made, own_share: Duration) -> Result<(), HostError> {
        let Made { draft, signature_bytes, passphrase, stamped_since_boot_ms } = made;
        let message = draft.message.clone();
        let finished = draft.finish(&signature_bytes, passphrase.as_ref());
        let finished = finished.map_err(|refusal| HostError::Refused(refusal.to_string()))?;
        let signed = SignedRequest {
            message,
            signature_bytes,
            method: finished.method.name().to_owned(),
            url: finished.url,
            headers: finished.headers,
            body: finished.body,
            signature: finished.signature,
            timestamp_ms: finished.timestamp_ms,
            stamped_since_boot_ms,
            own_share_us: own_share.as_micros() as u64,
        };
        let sent = frame::send(&mut &*self.stream, &VaultReply::Signed(Box::new(signed)));
        sent.map_err(|error| HostError::refused("the front", &error))
    }
}

fn entry(judged: &Judged) -> SpentApproval {
    SpentApproval {
        at_ms: clock::wall_ms(),
        request_id: judged.statement.request_id.clone(),
        statement_sha256: HEXLOWER.encode(&Sha256::digest(judged.statement.bytes())),
        spends: judged.spends.clone(),
    }
}
