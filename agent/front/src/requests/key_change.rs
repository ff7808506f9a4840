//! Adds, activates and removes keys. An enrol child does the work on the token; the front keeps key
//! file, journal and keyring in step.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::Config;
use countersign_base::messages::enrol_child::{
    EnrolError, EnrolReply, EnrolRequest, KeyFacts, SecretEncoding, SlotChoice,
};
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::{self, Exchange, SecretFormat};
use countersign_core::key::{Environment, KeyName, NonceUnit, Tier};
use countersign_core::ports::Clock;
use countersign_core::record::Record;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::vault::EnrolledFor;
use countersign_core::wire;
use countersign_core::wire::admin::{DoneReply, NewKey, Register};
use data_encoding::HEXLOWER;
use p256::pkcs8::{Document, LineEnding};

use super::answer::done;
use super::status::key_entry;
use crate::clock::SystemClock;
use crate::front::Front;
use crate::keyring::Keyring;
use crate::ledger::keys::{CkaId, KeyFile, KeyFileError, KeyFileState, Rung};
use crate::ledger::recorder::{Recorder, key_change};
use crate::shutdown::Stop;
use crate::sockets::peer::Peer;
use crate::tokens::{Tokens, enrol_child};
use crate::waiting::keys_in_change::KeysInChange;

/// Longest time for a person to type a secret and for a token to make a key.
const KEY_CHANGE_DEADLINE: Duration = Duration::from_secs(600);

/// All that is known about a new key before the token is asked.
struct Plan {
    name: KeyName,
    exchange: &'static dyn Exchange,
    environment: Environment,
    /// The key will be for one of these: the one that was asked for, or any that the exchange
    /// takes.
    algorithms: Vec<Algorithm>,
    scopes: Scopes,
    expires_ms: Option<u64>,
    nonce_unit: Option<NonceUnit>,
    modulus_bits: Option<u32>,
    slot: SlotChoice,
    token: TokenSettings,
}

/// The parts of the front that a change of a key needs.
pub(crate) struct KeyChanges<'a> {
    config: Rc<Config>,
    clock: &'a SystemClock,
    keyring: &'a Keyring,
    recorder: &'a Recorder,
    tokens: &'a Tokens,
    keys_in_change: &'a KeysInChange,
    stop: &'a Stop,
}

impl<'a> KeyChanges<'a> {
    pub(crate) fn of(front: &'a Front) -> Self {
        Self {
            config: front.config(),
            clock: &front.clock,
            keyring: &front.keyring,
            recorder: &front.recorder,
            tokens: &front.tokens,
            keys_in_change: &front.keys_in_change,
            stop: &front.stopper.1,
        }
    }

    /// Carries out one `register@countersign`.
    pub(crate) async fn register(
        &self,
        asked: Register,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        let _change = self.keys_in_change.take(asked.name())?;
        match asked {
            Register::Activate { v, name, api_key } => {
                wire::check_version(v)?;
                self.activate(&name, api_key, operator, peer).await
            }
            Register::Add(new) => {
                let operator = operator.ok_or_else(|| {
                    Refusal::malformed(
                        "no terminal or pipe came with the request: the secret is never part of it",
                    )
                })?;
                self.add(self.plan(new)?, operator, peer).await
            }
            Register::Generate(new) => self.generate(self.plan(new)?, operator, peer).await,
            Register::Remove { v, name } => {
                wire::check_version(v)?;
                self.remove(&name, operator, peer).await
            }
        }
    }

    /// Judges the request before the token or the operator is asked for anything.
    fn plan(&self, new: NewKey) -> Result<Plan, Refusal> {
        wire::check_version(new.v)?;
        let name = wire::key_name(&new.name)?;
        if self.keyring.file(name.as_str()).is_some() {
            return Err(Refusal::malformed(format!(
                "there is a key named {name} already; remove it first"
            )));
        }
        let exchange = known_exchange(&new.exchange)?;
        let facts = exchange.facts();
        let algorithms =
            new.algorithm.map_or_else(|| facts.algorithms.to_vec(), |algorithm| vec![algorithm]);
        if let Some(algorithm) =
            algorithms.iter().find(|algorithm| !facts.algorithms.contains(algorithm))
        {
            let known: Vec<_> = facts.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(Refusal::malformed(format!(
                "{} takes {} keys, not {algorithm}",
                facts.name,
                known.join(", ")
            )));
        }
        if !facts.hosts.iter().any(|group| group.environment == new.environment) {
            return Err(Refusal::malformed(format!(
                "{} has no {} environment",
                facts.name, new.environment
            )));
        }
        if new.scopes.is_empty() {
            return Err(Refusal::malformed("a key needs at least one scope"));
        }
        let (token, tier) = self.token_settings(&new.token)?;
        check_rung(new.scopes, tier, &token)?;
        let NewKey {
            environment,
            scopes,
            expires_ms,
            nonce_unit,
            rsa_bits: modulus_bits,
            slot,
            overwrite,
            ..
        } = new;
        let slot = slot.as_deref().map(Slot::parse).transpose();
        let slot = slot.map_err(|error| Refusal::malformed(error.to_string()))?;
        let slot = SlotChoice { slot, overwrite };
        Ok(Plan {
            name,
            exchange,
            environment,
            algorithms,
            scopes,
            expires_ms,
            nonce_unit,
            modulus_bits,
            slot,
            token,
        })
    }

    fn token_settings(&self, name: &str) -> Result<(TokenSettings, Tier), Refusal> {
        let token = self.config.tokens.iter().find(|token| token.settings.name == name);
        let token =
            token.ok_or_else(|| Refusal::malformed(format!("agent.toml has no [token.{name}]")))?;
        Ok((token.settings.clone(), token.tier))
    }

    async fn add(&self, plan: Plan, operator: OwnedFd, peer: &Peer) -> Result<DoneReply, Refusal> {
        let facts = plan.exchange.facts();
        let request = EnrolRequest::Add {
            name: plan.name.to_string(),
            exchange: facts.name.to_owned(),
            algorithms: plan.algorithms.clone(),
            secret_encoding: match facts.secret {
                SecretFormat::Ascii => SecretEncoding::Ascii,
                SecretFormat::Base64 => SecretEncoding::Base64,
            },
            passphrase: facts.passphrase,
            enrolled_for: plan.token.is_vault().then(|| EnrolledFor {
                exchange: facts.name.to_owned(),
                environment: plan.environment,
                scopes: plan.scopes,
            }),
        };
        let added = self.on_token(&plan.token, &request, Some(operator), peer).await?;
        self.enrolled(plan, &added, peer, "added").await
    }

    /// Generates a key on a token. `operator` is the operator's terminal, if there is one: the
    /// child may ask for a PIN or a management key there.
    async fn generate(
        &self,
        plan: Plan,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        if plan.token.is_vault() {
            let message =
                "a vault is for keys that come from an exchange: generate others in a YubiKey";
            return Err(Refusal::malformed(message));
        }
        let Some(algorithm) =
            plan.algorithms.first().copied().filter(|algorithm| !algorithm.is_hmac())
        else {
            let message = "an HMAC secret is made by the exchange: use `countersign key add`";
            return Err(Refusal::malformed(message));
        };
        let name = plan.name.to_string();
        let (modulus_bits, slot) = (plan.modulus_bits, plan.slot);
        let request = EnrolRequest::Generate { name, algorithm, modulus_bits, slot };
        let generated = self.on_token(&plan.token, &request, operator, peer).await?;
        self.enrolled(plan, &generated, peer, "generated").await
    }

    /// Completes an enrolment once the token has the key: journal, key file, keyring and token
    /// host.
    async fn enrolled(
        &self,
        plan: Plan,
        facts: &KeyFacts,
        peer: &Peer,
        how: &str,
    ) -> Result<DoneReply, Refusal> {
        if !plan.algorithms.contains(&facts.algorithm) {
            return Err(unexpected());
        }
        let file = KeyFile {
            name: plan.name,
            exchange: plan.exchange.facts().name.to_owned(),
            environment: plan.environment,
            token: plan.token.name.clone(),
            algorithm: facts.algorithm,
            cka_id: CkaId(HEXLOWER.decode(facts.cka_id.as_bytes()).unwrap_or_default()),
            scopes: plan.scopes,
            tier: facts.tier,
            rung: match facts.touch_attested_by {
                Some(_) => Rung::One,
                None if plan.token.is_vault() => Rung::Two,
                None => Rung::Three,
            },
            mechanism_bound: facts.allowed_mechanism_bound,
            state: if facts.active { KeyFileState::Active } else { KeyFileState::AwaitingApiKey },
            created_ms: self.clock.now_ms(),
            expires_ms: plan.expires_ms,
            nonce_unit: plan.nonce_unit,
            public_key_pem: facts.public_key_der.as_deref().and_then(pem),
            touch_attested_by: facts.touch_attested_by,
            slot: facts.slot.clone(),
        };
        let change = key_change(&file, uid_of(peer));
        let record =
            if facts.active { Record::KeyAdded(change) } else { Record::KeyGenerated(change) };
        self.recorder.synced(&record)?;
        self.save(&file)?;
        self.keyring.put(file.clone());
        self.rescan(&file.token).await;
        let mut reply = done(format!("{} was {how} on token {}", file.name, file.token));
        reply.public_key = file.public_key_pem.clone();
        reply.key = key_entry(self.keyring, self.tokens, self.recorder, &file.name);
        Ok(reply)
    }

    async fn activate(
        &self,
        name: &str,
        api_key: String,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        let mut file = self.key_file(name)?;
        let (token, _) = self.token_settings(&file.token)?;
        let request = EnrolRequest::Activate { name: file.name.to_string(), api_key };
        self.on_token(&token, &request, operator, peer).await?;
        file.state = KeyFileState::Active;
        self.recorder.synced(&Record::KeyActivated(key_change(&file, uid_of(peer))))?;
        self.save(&file)?;
        self.keyring.put(file.clone());
        self.rescan(&file.token).await;
        let mut reply = done(format!("{name} is active"));
        reply.key = key_entry(self.keyring, self.tokens, self.recorder, &file.name);
        Ok(reply)
    }

    async fn remove(
        &self,
        name: &str,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        let Some(file) = self.keyring.file(name) else {
            return self.remove_unfinished(name, operator, peer).await;
        };
        let (token, _) = self.token_settings(&file.token)?;
        // The record comes first, so that a removal that fails half-way can be seen and done again.
        self.recorder.synced(&Record::KeyRemoved(key_change(&file, uid_of(peer))))?;
        let objects = match self.ask_token(&token, &remove_request(name), operator, peer).await {
            Ok(EnrolReply::Removed { objects }) => objects,
            // Somebody else removed the key, or an earlier removal was interrupted: the file is
            // removed too.
            Err(refusal) if refusal.code == Code::KeyUnknown => 0,
            Ok(_) => return Err(unexpected()),
            Err(refusal) => return Err(refusal),
        };
        self.keyring
            .files
            .remove(&file.name)
            .map_err(|error| Refusal::new(Code::LedgerUnavailable, error.to_string()))?;
        self.keyring.remove(&file.name);
        self.rescan(&file.token).await;
        let token = &file.token;
        Ok(done(match &file.slot {
            Some(slot) => format!(
                "{name} is gone; slot {slot} of {token} keeps its contents, and nothing uses them"
            ),
            None => format!("{name} and its {objects} objects on token {token} are gone"),
        }))
    }

    /// Clears the objects that an interrupted enrolment left on a token: the token has the name,
    /// and the front has no file for it.
    async fn remove_unfinished(
        &self,
        name: &str,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        wire::key_name(name)?;
        for token in &self.config.tokens {
            // If the descriptor cannot be copied, the child cannot ask the operator.
            let operator = operator.as_ref().and_then(|operator| operator.try_clone().ok());
            match self.ask_token(&token.settings, &remove_request(name), operator, peer).await {
                Ok(EnrolReply::Removed { objects }) => {
                    let token = &token.settings.name;
                    self.rescan(token).await;
                    let what = format!(
                        "{name} was never finished; its {objects} objects on token {token} are gone"
                    );
                    return Ok(done(what));
                }
                Ok(_) => return Err(unexpected()),
                Err(refusal) if refusal.code == Code::KeyUnknown => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::new(
            Code::KeyUnknown,
            format!("there is no key named {name:?}, here or on a token"),
        ))
    }

    fn key_file(&self, name: &str) -> Result<KeyFile, Refusal> {
        let unknown = || Refusal::new(Code::KeyUnknown, format!("there is no key named {name:?}"));
        self.keyring.file(name).ok_or_else(unknown)
    }

    fn save(&self, file: &KeyFile) -> Result<(), Refusal> {
        let saved =
            self.recorder.with_room(KeyFileError::is_full, || self.keyring.files.save(file));
        saved.map_err(|error| Refusal::new(Code::LedgerUnavailable, error.to_string()))
    }

    /// Lets the host look for its keys again. If it is down, it will find the key when it comes
    /// back.
    async fn rescan(&self, token: &str) {
        let Some(handle) = self.tokens.handle(token) else { return };
        match handle.rescan().await {
            Ok(keys) => self.keyring.hosted(token, &keys),
            Err(error) => {
                tracing::warn!(token, %error, "the token could not be asked for its keys")
            }
        }
    }

    /// Changes a key on its token, if the change can be recorded.
    async fn on_token(
        &self,
        token: &TokenSettings,
        request: &EnrolRequest,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<KeyFacts, Refusal> {
        self.recorder.may_begin()?;
        match self.ask_token(token, request, operator, peer).await? {
            EnrolReply::Done { facts } => Ok(facts),
            _ => Err(unexpected()),
        }
    }

    async fn ask_token(
        &self,
        token: &TokenSettings,
        request: &EnrolRequest,
        operator: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<EnrolReply, Refusal> {
        let failed = |error| {
            Refusal::new(Code::TokenUnavailable, format!("the enrolment process failed: {error}"))
        };
        let spawner = if token.is_vault() {
            self.tokens.vault_spawner.ready().map_err(failed)?
        } else {
            self.tokens.spawner.clone()
        };
        match enrol_child::run(&spawner, token, request, operator, self.abandoned(peer)).await {
            Ok(EnrolReply::Refused { reason }) => Err(refusal(&reason)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns when the operator is gone or too slow, or when the agent stops.
    async fn abandoned(&self, peer: &Peer) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = peer.gone() => {}
            () = stop.requested() => {}
            () = tokio::time::sleep(KEY_CHANGE_DEADLINE) => {}
        }
    }
}

fn uid_of(peer: &Peer) -> u32 {
    peer.uid.unwrap_or(u32::MAX)
}

fn remove_request(name: &str) -> EnrolRequest {
    EnrolRequest::Remove { name: name.to_owned() }
}

/// The refusal for a failed enrolment: its code tells whether the input, the name or the token was
/// the cause.
fn refusal(reason: &EnrolError) -> Refusal {
    let code = match reason {
        EnrolError::AlreadyActive(_)
        | EnrolError::Cancelled
        | EnrolError::Input(_)
        | EnrolError::Name(_)
        | EnrolError::NameTaken(_)
        | EnrolError::Unfinished(_) => Code::RequestMalformed,
        EnrolError::NameUnknown(_) => Code::KeyUnknown,
        EnrolError::Host(_)
        | EnrolError::ImportUnsupported { .. }
        | EnrolError::ProofFailed(_)
        | EnrolError::TouchUnproven { .. }
        | EnrolError::Unprotected => Code::TokenUnavailable,
    };
    Refusal::new(code, reason.to_string())
}

fn known_exchange(name: &str) -> Result<&'static dyn Exchange, Refusal> {
    exchange::named(name).ok_or_else(|| {
        let known: Vec<_> = exchange::ALL.iter().map(|exchange| exchange.facts().name).collect();
        Refusal::malformed(format!("the exchange {name:?} is not one of {}", known.join(", ")))
    })
}

/// Checks that a key that can withdraw or manage keys is behind a touch. A YubiKey takes a touch
/// for every signature of its keys.
fn check_rung(scopes: Scopes, tier: Tier, token: &TokenSettings) -> Result<(), Refusal> {
    let refused = |message: &str| Err(Refusal::new(Code::PolicyScope, message));
    let needs_touch = scopes.contains(Scope::Withdraw) || scopes.contains(Scope::Admin);
    if token.is_yubikey() {
        if needs_touch && scopes.contains(Scope::Trade) {
            return refused(
                "a key behind a touch cannot trade as well: every order would take a touch; make a \
                 second exchange key \
                 for trading, with withdrawals switched off",
            );
        }
        return Ok(());
    }
    if token.is_vault() {
        // A request that needs no approval would wait for a touch that nobody announced.
        let others =
            scopes.without([Scope::Withdraw, Scope::Transfer, Scope::Admin].into_iter().collect());
        if !needs_touch || !others.is_empty() {
            return refused(
                "a vault's key signs only requests that persons approve: withdraw or admin, with \
                 transfer if the exchange wants it; make another exchange key for the rest, with \
                 withdrawals switched off",
            );
        }
        return Ok(());
    }
    if needs_touch && tier != Tier::Software {
        return refused(
            "withdraw and admin keys need a touch for every signature: generate them in a YubiKey \
             (profile yubikey-piv), \
             or add them to a vault; only software tokens take them without, for trials",
        );
    }
    Ok(())
}

/// The refusal for an answer that does not fit the question. The child's own refusals never get
/// here.
fn unexpected() -> Refusal {
    Refusal::new(Code::TokenUnavailable, "the enrolment process answered another question")
}

fn pem(der: &[u8]) -> Option<String> {
    Document::try_from(der).ok()?.to_pem("PUBLIC KEY", LineEnding::LF).ok()
}
