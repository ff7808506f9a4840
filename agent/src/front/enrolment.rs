//! Changes to the keys: an enrol child does the work on the token, the front keeps file, journal and keyring in step.

use std::os::fd::OwnedFd;
use std::time::Duration;

use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::{self, Exchange, SecretFormat};
use countersign_core::key::{Environment, KeyName, NonceUnit, Tier};
use countersign_core::ports::Clock;
use countersign_core::record::Record;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::wire;
use countersign_core::wire::admin::{DoneReply, NewKey, Register};
use data_encoding::HEXLOWER;
use p256::pkcs8::{Document, LineEnding};

use super::operator::done;
use super::recorder::key_change;
use super::{Front, enrol_child};
use crate::enrol::protocol::{CustodyTier, EnrolReply, EnrolRequest, KeyFacts, SecretEncoding};
use crate::host::settings::TokenSettings;
use crate::ledger::keys::{CkaId, KeyFile, KeyFileState, Rung};

/// How long a person may take to type a secret, and a token to make a key.
const PATIENCE: Duration = Duration::from_secs(600);

/// Everything about a new key that is known before the token is asked.
struct Plan {
    name: KeyName,
    exchange: &'static dyn Exchange,
    environment: Environment,
    algorithm: Algorithm,
    scopes: Scopes,
    expires_ms: Option<u64>,
    nonce_unit: Option<NonceUnit>,
    token: TokenSettings,
}

impl Front {
    /// Carries out one `register@countersign`.
    pub(super) async fn register(
        &self,
        asked: Register,
        operator: Option<OwnedFd>,
        uid: u32,
    ) -> Result<DoneReply, Refusal> {
        // One at a time: two enrolments of one name must not both find it free.
        let _turn = self.enrolling.lock().await;
        match asked {
            Register::Activate { v, name, api_key } => {
                wire::check_version(v)?;
                self.activate(&name, api_key, uid).await
            }
            Register::Add(new) => {
                let operator = operator.ok_or_else(|| {
                    Refusal::malformed("no terminal or pipe came with the request: the secret is never part of it")
                })?;
                self.add(self.plan(new)?, operator, uid).await
            }
            Register::Generate(new) => self.generate(self.plan(new)?, uid).await,
            Register::Remove { v, name } => {
                wire::check_version(v)?;
                self.remove(&name, uid).await
            }
        }
    }

    /// Judges what was asked before the token, or the operator, is bothered.
    fn plan(&self, new: NewKey) -> Result<Plan, Refusal> {
        wire::check_version(new.v)?;
        let name = wire::key_name(&new.name)?;
        if self.keyring.file(name.as_str()).is_some() {
            return Err(Refusal::malformed(format!("there is a key named {name} already; remove it first")));
        }
        let exchange = known_exchange(&new.exchange)?;
        let facts = exchange.facts();
        let algorithm = new.algorithm.unwrap_or(facts.algorithms[0]);
        if !facts.algorithms.contains(&algorithm) {
            let known: Vec<_> = facts.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(Refusal::malformed(format!("{} takes {} keys, not {algorithm}", facts.name, known.join(", "))));
        }
        if !facts.hosts.iter().any(|group| group.environment == new.environment) {
            return Err(Refusal::malformed(format!("{} has no {} environment", facts.name, new.environment)));
        }
        if new.scopes.is_empty() {
            return Err(Refusal::malformed("a key needs at least one scope"));
        }
        let (token, tier) = self.token_settings(&new.token)?;
        check_rung(new.scopes, tier)?;
        let NewKey { environment, scopes, expires_ms, nonce_unit, .. } = new;
        Ok(Plan { name, exchange, environment, algorithm, scopes, expires_ms, nonce_unit, token })
    }

    fn token_settings(&self, name: &str) -> Result<(TokenSettings, Tier), Refusal> {
        let config = self.config();
        let token = config.tokens.iter().find(|token| token.settings.name == name);
        let token = token.ok_or_else(|| Refusal::malformed(format!("agent.toml has no [token.{name}]")))?;
        Ok((token.settings.clone(), token.tier))
    }

    async fn add(&self, plan: Plan, operator: OwnedFd, uid: u32) -> Result<DoneReply, Refusal> {
        let facts = plan.exchange.facts();
        let request = EnrolRequest::Add {
            name: plan.name.to_string(),
            exchange: facts.name.to_owned(),
            algorithm: plan.algorithm,
            secret_encoding: secret_encoding(plan.algorithm, facts.secret),
            needs_passphrase: facts.needs_passphrase,
        };
        let added = self.on_token(&plan.token, &request, Some(operator)).await?;
        self.enrolled(plan, &added, uid, "added").await
    }

    async fn generate(&self, plan: Plan, uid: u32) -> Result<DoneReply, Refusal> {
        if plan.algorithm.is_hmac() {
            let message = "an HMAC secret is made by the exchange: use `countersign key add`";
            return Err(Refusal::malformed(message));
        }
        let (name, algorithm) = (plan.name.to_string(), plan.algorithm);
        let request = EnrolRequest::Generate { name, algorithm, modulus_bits: None };
        let generated = self.on_token(&plan.token, &request, None).await?;
        self.enrolled(plan, &generated, uid, "generated").await
    }

    /// The token has the key: now its file, the journal and the host.
    async fn enrolled(&self, plan: Plan, facts: &KeyFacts, uid: u32, how: &str) -> Result<DoneReply, Refusal> {
        let file = KeyFile {
            name: plan.name,
            exchange: plan.exchange.facts().name.to_owned(),
            environment: plan.environment,
            token: plan.token.name.clone(),
            algorithm: plan.algorithm,
            cka_id: CkaId(HEXLOWER.decode(facts.cka_id.as_bytes()).unwrap_or_default()),
            scopes: plan.scopes,
            tier: tier(facts.tier),
            rung: Rung::Three,
            mechanism_bound: facts.allowed_mechanism_bound,
            state: if facts.active { KeyFileState::Active } else { KeyFileState::AwaitingApiKey },
            created_ms: self.clock.now_ms(),
            expires_ms: plan.expires_ms,
            nonce_unit: plan.nonce_unit,
            public_key_pem: facts.public_key_der.as_deref().and_then(pem),
        };
        let change = key_change(&file, uid);
        let record = if facts.active { Record::KeyAdded(change) } else { Record::KeyGenerated(change) };
        self.recorder.synced(&record)?;
        self.save(&file)?;
        self.keyring.put(file.clone());
        self.rescan(&file.token).await;
        let mut reply = done(format!("{} was {how} on token {}", file.name, file.token));
        reply.public_key = file.public_key_pem.clone();
        reply.key = self.key_entry(&file.name);
        Ok(reply)
    }

    async fn activate(&self, name: &str, api_key: String, uid: u32) -> Result<DoneReply, Refusal> {
        let mut file = self.key_file(name)?;
        let (token, _) = self.token_settings(&file.token)?;
        let request = EnrolRequest::Activate { name: file.name.to_string(), api_key };
        self.on_token(&token, &request, None).await?;
        file.state = KeyFileState::Active;
        self.recorder.synced(&Record::KeyActivated(key_change(&file, uid)))?;
        self.save(&file)?;
        self.keyring.put(file.clone());
        self.rescan(&file.token).await;
        let mut reply = done(format!("{name} is active"));
        reply.key = self.key_entry(&file.name);
        Ok(reply)
    }

    async fn remove(&self, name: &str, uid: u32) -> Result<DoneReply, Refusal> {
        let file = self.key_file(name)?;
        let (token, _) = self.token_settings(&file.token)?;
        // On record first: a removal that fails half-way is seen, and can be done again.
        self.recorder.synced(&Record::KeyRemoved(key_change(&file, uid)))?;
        let removed = self.ask_token(&token, &EnrolRequest::Remove { name: file.name.to_string() }, None).await?;
        let EnrolReply::Removed { objects } = removed else { return Err(unexpected(removed)) };
        self.key_files.remove(&file.name).map_err(|error| Refusal::new(Code::LedgerUnavailable, error.to_string()))?;
        self.keyring.remove(&file.name);
        self.rescan(&file.token).await;
        Ok(done(format!("{name} and its {objects} objects on token {} are gone", file.token)))
    }

    fn key_file(&self, name: &str) -> Result<KeyFile, Refusal> {
        let unknown = || Refusal::new(Code::KeyUnknown, format!("there is no key named {name:?}"));
        self.keyring.file(name).ok_or_else(unknown)
    }

    fn save(&self, file: &KeyFile) -> Result<(), Refusal> {
        self.key_files.save(file).map_err(|error| Refusal::new(Code::LedgerUnavailable, error.to_string()))
    }

    /// The host looks again; where it is down it will find the key when it comes back.
    async fn rescan(&self, token: &str) {
        let Some(handle) = self.tokens.handle(token) else { return };
        match handle.rescan().await {
            Ok(keys) => self.keyring.hosted(token, &keys),
            Err(error) => tracing::warn!(token, %error, "the token could not be asked for its keys"),
        }
    }

    async fn on_token(
        &self,
        token: &TokenSettings,
        request: &EnrolRequest,
        operator: Option<OwnedFd>,
    ) -> Result<KeyFacts, Refusal> {
        match self.ask_token(token, request, operator).await? {
            EnrolReply::Done { facts } => Ok(facts),
            other => Err(unexpected(other)),
        }
    }

    async fn ask_token(
        &self,
        token: &TokenSettings,
        request: &EnrolRequest,
        operator: Option<OwnedFd>,
    ) -> Result<EnrolReply, Refusal> {
        let failed = |reason: String| Refusal::new(Code::TokenUnavailable, reason);
        let exchange = tokio::time::timeout(PATIENCE, enrol_child::run(token, request, operator));
        match exchange.await {
            Err(_) => Err(failed("the enrolment took too long and was ended".to_owned())),
            Ok(Err(error)) => Err(failed(format!("the enrolment process failed: {error}"))),
            Ok(Ok(EnrolReply::Refused { reason })) => Err(failed(reason.to_string())),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}

fn known_exchange(name: &str) -> Result<&'static dyn Exchange, Refusal> {
    exchange::named(name).ok_or_else(|| {
        let known: Vec<_> = exchange::ALL.iter().map(|exchange| exchange.facts().name).collect();
        Refusal::malformed(format!("the exchange {name:?} is not one of {}", known.join(", ")))
    })
}

/// Keys that can move money out or manage keys belong behind a touch, which no token of this version gives.
fn check_rung(scopes: Scopes, tier: Tier) -> Result<(), Refusal> {
    let needs_touch = scopes.contains(Scope::Withdraw) || scopes.contains(Scope::Admin);
    if needs_touch && tier != Tier::Software {
        let message = "withdraw and admin keys need a touch for every signature, which this version cannot give; \
                       only software tokens take them, for trials";
        return Err(Refusal::new(Code::PolicyScope, message));
    }
    Ok(())
}

fn secret_encoding(algorithm: Algorithm, format: SecretFormat) -> SecretEncoding {
    match (algorithm.is_hmac(), format) {
        (true, SecretFormat::Ascii) => SecretEncoding::Ascii,
        (true, SecretFormat::Base64) => SecretEncoding::Base64,
        (false, _) => SecretEncoding::Pem,
    }
}

const fn tier(tier: CustodyTier) -> Tier {
    match tier {
        CustodyTier::Device => Tier::Device,
        CustodyTier::Imported => Tier::Imported,
        CustodyTier::Software => Tier::Software,
    }
}

fn unexpected(reply: EnrolReply) -> Refusal {
    let message = match reply {
        EnrolReply::Refused { reason } => reason.to_string(),
        EnrolReply::Done { .. } | EnrolReply::Removed { .. } => {
            "the enrolment process answered another question".to_owned()
        }
    };
    Refusal::new(Code::TokenUnavailable, message)
}

fn pem(der: &[u8]) -> Option<String> {
    Document::try_from(der).ok()?.to_pem("PUBLIC KEY", LineEnding::LF).ok()
}
