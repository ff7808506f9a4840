//! The commands for a vault: an operator makes it, looks at it, tries its YubiKeys, and changes
//! which of them open it.
//!
//! Every change after the first takes a touch of a YubiKey that opens the vault now, and an
//! approval by an approver for whom it was sealed.

use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_base::agent_id;
use countersign_base::config::{self, Config, fits};
use countersign_base::messages::confinement::Demand;
use countersign_base::messages::settings::{PinSource, TokenSettings};
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::sys::LockedMemory;
use countersign_base::system::{clock, confine};
use countersign_core::approval::{Collected, Purpose, Statement, Subject};
use countersign_core::attestation::PinPolicy;
use countersign_token::login;
use countersign_token::token::pkcs11::Pkcs11Token;
use countersign_token::vault::directory::VaultDirectory;
use countersign_token::vault::open::{PreparedVault, VaultClosing, seal};
use countersign_token::vault::sealed::{
    Recipient, SealedApprover, SealedContents, SpentMark, Terms, random_pin,
};
use countersign_token::vault::spent_approvals::SpentApprovals;
use countersign_token::vault::unseal::{card_pin, yubikey_gone};
use countersign_token::yubikey::YubiKey;
use countersign_token::yubikey::new_key::{attest, make_unsealing_key, roots};
use data_encoding::BASE64;
use serde_json::json;

use super::vault_difference::Difference;

/// Longest time for the approval of a change, in milliseconds.
const APPROVAL_DEADLINE_MS: u64 = 180_000;

/// A vault of `agent.toml`.
#[derive(Debug)]
pub struct Custody {
    config: Config,
    config_file: PathBuf,
    settings: TokenSettings,
    directory: VaultDirectory,
}

/// A change of a vault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    Add(String),
    Remove(String),
    /// Seals the vault for `agent.toml` as it is now.
    Reseal,
    /// Changes only the PIN, which takes no approval.
    Rotate,
}

impl Custody {
    pub fn open(config_file: &Path, token: &str) -> Result<Self, HostError> {
        confine::hide_memory().map_err(HostError::unprotected)?;
        let config =
            config::load(config_file).map_err(|error| HostError::refused("agent.toml", &error))?;
        let found = config.tokens.iter().find(|one| one.settings.name == token);
        let absent =
            || HostError::Refused(format!("agent.toml has no [token.{token}] with a sealed PIN"));
        let settings =
            found.filter(|one| one.settings.is_sealed()).ok_or_else(absent)?.settings.clone();
        let directory = VaultDirectory::of(&settings.state_dir, token);
        Ok(Self { config, config_file: config_file.to_owned(), settings, directory })
    }

    /// Seals a new vault. It takes the token's first PIN from `pin_file`, sets a PIN that nobody
    /// knows, and removes the file. It does the same with the security officer's PIN, because that
    /// could set the user's PIN.
    pub fn init(
        &self,
        pin_file: &Path,
        so_pin_file: Option<&Path>,
        overwrite: bool,
        agent_id: Option<&str>,
    ) -> Result<serde_json::Value, HostError> {
        self.owned()?;
        let (recipients, approvers) = self.first_people(so_pin_file.is_some(), overwrite)?;
        self.directory
            .make()
            .map_err(|error| HostError::refused("the vault's directory", &error))?;
        let agent = agent_id.map_or_else(
            || agent_id::of(&self.config.agent.state_dir),
            |given| Ok(given.to_owned()),
        );
        let agent = agent.map_err(|error| {
            HostError::refused("the agent's id, which --agent-id gives as well,", &error)
        })?;
        let (token, pin) = self.try_pin(pin_file)?;
        if let Some(file) = so_pin_file {
            self.forget_officer(&token, file)?;
        }
        let terms = Terms {
            v: 1,
            agent,
            token: self.settings.name.clone(),
            token_serial: token.facts().serial.clone(),
            policy_sha256: self.config.policy.sha256.clone(),
            recipients,
            approvers,
        };
        let contents = SealedContents {
            terms: terms.clone(),
            pin,
            previous: None,
            spent: SpentMark::default(),
        };
        seal(&self.directory, &token, contents, || Ok(()), "the vault could not be sealed")?;
        self.keep_config(&terms);
        let rotates = VaultClosing::rotates(token.profile());
        if rotates {
            fs::remove_file(pin_file).map_err(|error| {
                HostError::refused("the PIN file is of no use any more", &error)
            })?;
        }
        Ok(shown(&terms, rotates))
    }

    /// The YubiKeys that will open a new vault, and the approvers of its changes.
    fn first_people(
        &self,
        officer: bool,
        overwrite: bool,
    ) -> Result<(Vec<Recipient>, Vec<SealedApprover>), HostError> {
        if self.directory.exists() {
            return Err(HostError::Refused(
                "this vault was made already: countersign vault show".to_owned(),
            ));
        }
        if self.unsealers().len() < 2 {
            tracing::warn!("only one YubiKey opens this vault: if it is lost, the keys are lost");
        }
        let recipients = self
            .unsealers()
            .iter()
            .map(|one| recipient(one, overwrite))
            .collect::<Result<_, _>>()?;
        let approvers: Vec<_> =
            self.config.policy.approvers.iter().filter_map(SealedApprover::of).collect();
        if officer && !self.rotates()? {
            return Err(HostError::Refused(
                "this token cannot have a PIN set: change it by hand".to_owned(),
            ));
        }
        if approvers.is_empty() && self.settings.is_vault() {
            return Err(HostError::Refused(
                "agent.toml names no approver: nobody could ever have it sign".to_owned(),
            ));
        }
        Ok((recipients, approvers))
    }

    /// Logs in to the token once, which proves that its first PIN is right.
    fn try_pin(&self, file: &Path) -> Result<(Arc<Pkcs11Token>, LockedMemory), HostError> {
        let with_file =
            TokenSettings { pin: PinSource::File(file.to_owned()), ..self.settings.clone() };
        let pin = read_pin(&with_file)?;
        yubikey_gone();
        let unconfined = TokenSettings { confinement: Demand::Off, ..with_file };
        let login = login::log_in(&unconfined, &[], None, login::PinKeeper::None)?;
        Ok((login.token, pin))
    }

    /// Sets a security officer's PIN that nobody knows. This is done before anything is sealed, so
    /// that after a failure the same command can be run again.
    fn forget_officer(&self, token: &Pkcs11Token, file: &Path) -> Result<(), HostError> {
        let failed = |error: &dyn std::fmt::Display| {
            HostError::refused(
                "the vault is not made: the security officer's PIN could not be changed",
                error,
            )
        };
        let known = read_pin(&TokenSettings {
            pin: PinSource::File(file.to_owned()),
            ..self.settings.clone()
        })?;
        let unknown = random_pin(token.profile().pin.max_length).map_err(|error| failed(&error))?;
        let session = token.open_writing_session().map_err(HostError::from)?;
        let done = token.calls().login_as_officer(&session, &known);
        let done = done.and_then(|()| token.calls().set_pin(&session, &known, &unknown));
        done.map_err(|code| failed(&format!("{code:?}")))?;
        drop(session);
        let left = "the security officer's PIN is another one now; remove its file, and make the \
                    vault without it";
        fs::remove_file(file).map_err(|error| HostError::refused(left, &error))
    }

    /// The parts of the vault that anybody may see.
    pub fn show(&self) -> Result<serde_json::Value, HostError> {
        let found = self.directory.read().map_err(|error| HostError::Refused(error.to_string()))?;
        let mut shown = shown(&found.sealed.terms, self.rotates()?);
        shown["policy_in_force"] =
            (found.sealed.terms.policy_sha256 == self.config.policy.sha256).into();
        shown["rotation_unfinished"] = found.is_next.into();
        Ok(shown)
    }

    /// Proves with a touch that a YubiKey opens the vault. Nothing is signed, and the token's
    /// module is not loaded.
    pub fn drill(&self, yubikey: &str) -> Result<serde_json::Value, HostError> {
        let found = self.directory.read().map_err(|error| HostError::Refused(error.to_string()))?;
        self.owned()?;
        let settings = self.yubikey(yubikey)?;
        let serial = settings.yubikey_serial()?;
        let opened =
            |error| HostError::Refused(format!("{yubikey} does not open the vault: {error}"));
        let point = found.sealed.point_for(serial).map_err(opened)?;
        let (card, pin) = (YubiKey::new(serial), card_pin(&settings, None)?);
        let agreed = card.agree(Slot::KEY_MANAGEMENT, point, &pin, announce(yubikey))?;
        found.sealed.open(serial, &agreed).map_err(opened)?;
        Ok(json!({"v": 1, "token": self.settings.name, "opened_by": yubikey, "serial": serial}))
    }

    /// Seals the vault anew, with a touch, and with an approval unless only the PIN changes. The
    /// statement to approve goes to standard output, in one line. The signature, in PEM, is read
    /// from standard input until its end.
    pub fn change(&self, change: &Change, overwrite: bool) -> Result<serde_json::Value, HostError> {
        self.owned()?;
        let prepared = PreparedVault::new(&self.settings, &[], None, None)?;
        let before = prepared.terms().clone();
        let terms = self.changed(&before, change, overwrite)?;
        // A trading token may be sealed without approvers, and then nobody is asked.
        if *change != Change::Rotate && !before.approvers.is_empty() {
            self.approved(&before, &terms)?;
        }
        let (card, spent) =
            (prepared.card().to_owned(), SpentApprovals::open(prepared.directory()));
        let spent = spent.map_err(|error| HostError::Refused(error.to_string()))?;
        let unsealed = prepared.touch(announce(&card))?;
        if unsealed.contents.terms != before {
            return Err(HostError::Refused("the vault holds other terms than its file".to_owned()));
        }
        spent
            .check(&unsealed.contents.spent)
            .map_err(|error| HostError::Refused(error.to_string()))?;
        let (login, closing) = unsealed.log_in()?;
        let rotates = VaultClosing::rotates(login.token.profile());
        drop(login);
        closing.finish(Some(terms.clone()), spent.mark())?;
        self.keep_config(&terms);
        Ok(shown(&terms, rotates))
    }

    fn changed(
        &self,
        before: &Terms,
        change: &Change,
        overwrite: bool,
    ) -> Result<Terms, HostError> {
        let mut terms = before.clone();
        match change {
            Change::Rotate => return Ok(terms),
            Change::Reseal => {}
            Change::Add(name) => {
                let added = recipient(&self.yubikey(name)?, overwrite)?;
                terms.recipients.retain(|one| one.serial != added.serial && one.name != added.name);
                terms.recipients.push(added);
            }
            Change::Remove(name) => {
                terms.recipients.retain(|one| one.name != *name);
                if terms.recipients.is_empty() || terms.recipients.len() == before.recipients.len()
                {
                    let reason = format!("{name} is not one of its YubiKeys, or is the only one");
                    return Err(HostError::Refused(reason));
                }
            }
        }
        terms.policy_sha256.clone_from(&self.config.policy.sha256);
        terms.approvers =
            self.config.policy.approvers.iter().filter_map(SealedApprover::of).collect();
        Ok(terms)
    }

    /// Asks the approvers of the terms before to approve the new terms.
    fn approved(&self, before: &Terms, terms: &Terms) -> Result<(), HostError> {
        let found =
            Difference::between(before, terms, &self.config, &self.directory, &self.config_file);
        let sentences = if found.whole { 0 } else { found.loosens.len() };
        let statement = Statement {
            purpose: Purpose::Approval,
            agent: before.agent.clone(),
            request_id: uuid::Uuid::new_v4().to_string(),
            expires_ms: clock::wall_ms() + APPROVAL_DEADLINE_MS,
            policy_sha256: before.policy_sha256.clone(),
            subject: Subject::Vault {
                token: terms.token.clone(),
                recipients: terms
                    .recipients
                    .iter()
                    .map(|one| (one.name.clone(), one.serial))
                    .collect(),
                policy_sha256: terms.policy_sha256.clone(),
                terms_sha256: terms.sha256(),
                loosens: found.loosens,
                diff: found.diff,
            },
        };
        fits(sentences, &statement)
            .map_err(|reason| HostError::refused("the change cannot be shown whole", &reason))?;
        let approvers = before
            .approvers
            .iter()
            .map(|one| json!({"name": one.name, "public_key": one.public_key}));
        let asked =
            json!({"v": 1, "statement": statement, "approvers": approvers.collect::<Vec<_>>()});
        writeln!(std::io::stdout(), "{asked}")
            .map_err(|error| HostError::refused("standard output", &error))?;
        let mut sshsig = String::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| HostError::refused("standard input", &error))?;
            sshsig.push_str(&line);
            sshsig.push('\n');
            if line.starts_with("-----END") {
                break;
            }
        }
        let expires_ms = statement.expires_ms;
        let mut collected = Collected::new(statement, 1);
        let refused = |reason: &dyn std::fmt::Display| {
            HostError::Refused(format!("it was not approved: {reason}"))
        };
        collected.take(
            collected.judge(&before.approvers(), &sshsig).map_err(|reason| refused(&reason))?,
        );
        if clock::wall_ms() >= expires_ms {
            return Err(refused(&"too late"));
        }
        Ok(())
    }

    /// Keeps the configuration beside the vault. Without it the next change shows all of the
    /// configuration as new.
    fn keep_config(&self, terms: &Terms) {
        if terms.policy_sha256 == self.config.policy.sha256
            && let Err(error) = self.directory.keep_config(&self.config.text)
        {
            tracing::warn!(%error, "the configuration cannot be kept beside the vault");
        }
    }

    /// Checks that this process runs as the user whose processes open the vault later, so that they
    /// can read its files.
    fn owned(&self) -> Result<(), HostError> {
        owned_by(&self.settings.state_dir, rustix::process::geteuid().as_raw())
    }

    fn unsealers(&self) -> &[TokenSettings] {
        match &self.settings.pin {
            PinSource::Sealed(sealed) => &sealed.by,
            _ => &[],
        }
    }

    fn yubikey(&self, name: &str) -> Result<TokenSettings, HostError> {
        let found = self.unsealers().iter().find(|one| one.name == name).cloned();
        let names =
            || self.unsealers().iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| {
            HostError::Refused(format!("{name} is not in sealed_by of agent.toml: {}", names()))
        })
    }

    fn rotates(&self) -> Result<bool, HostError> {
        Ok(VaultClosing::rotates(&self.settings.checked_profile()?))
    }
}

fn owned_by(directory: &Path, user: u32) -> Result<(), HostError> {
    use std::os::unix::fs::MetadataExt as _;
    match fs::metadata(directory) {
        Ok(found) if found.uid() != user => Err(HostError::Refused(format!(
            "{} belongs to uid {}, and this is uid {user}: run this as its owner (sudo -u)",
            directory.display(),
            found.uid()
        ))),
        // This user makes a directory that is not there yet, and an error is reported then.
        _ => Ok(()),
    }
}

fn read_pin(settings: &TokenSettings) -> Result<LockedMemory, HostError> {
    let source = countersign_token::token::pin::OpenSource::open(settings);
    let pin = source.and_then(|source| source.read(&settings.name, None));
    Ok(pin.map_err(|error| HostError::PinUnavailable(error.to_string()))?.bytes)
}

/// A YubiKey whose key in slot 9d is proven to need PIN and touch each time. The key is made if the
/// slot is empty.
fn recipient(settings: &TokenSettings, overwrite: bool) -> Result<Recipient, HostError> {
    let serial = settings.yubikey_serial()?;
    let slot = Slot::KEY_MANAGEMENT;
    let roots = roots(settings).map_err(|error| HostError::Refused(error.to_string()))?;
    let yubikey = YubiKey::new(serial);
    if overwrite || yubikey.is_empty(slot)? {
        let pin = card_pin(settings, None)?;
        make_unsealing_key(&yubikey, &pin).map_err(|error| HostError::Card(error.to_string()))?;
    }
    let (attested, attestation) = attest(&yubikey, serial, slot, &roots)
        .map_err(|error| HostError::Card(error.to_string()))?;
    if attested.pin_policy != PinPolicy::Always {
        let reason =
            format!("the key in slot {slot} of {} does not take the PIN each time", settings.name);
        return Err(HostError::Card(reason));
    }
    let public_key = BASE64.encode(&attested.public_key);
    Ok(Recipient { name: settings.name.clone(), serial, public_key, attestation })
}

fn announce(yubikey: &str) -> countersign_token::yubikey::OnBlink {
    let text = format!("touch {yubikey}: it blinks");
    Box::new(move || drop(writeln!(std::io::stderr(), "{text}")))
}

fn shown(terms: &Terms, rotates: bool) -> serde_json::Value {
    let opens: Vec<_> = terms
        .recipients
        .iter()
        .map(|one| json!({"name": one.name, "serial": one.serial}))
        .collect();
    let promise = match rotates {
        true => "one touch signs once; the PIN is another one afterwards",
        false => {
            "one touch reveals the PIN until it is changed by hand: this token cannot have one set"
        }
    };
    let approvers: Vec<_> = terms.approvers.iter().map(|one| &one.name).collect();
    json!({
        "v": 1, "token": terms.token, "token_serial": terms.token_serial, "agent": terms.agent,
        "policy_sha256": terms.policy_sha256, "recipients": opens, "approvers": approvers,
        "rotates": rotates, "promise": promise,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_of_the_directory_writes_into_it() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let owner = fs::metadata(directory.path()).expect("there").uid();
        owned_by(directory.path(), owner).expect("its own");
        let refused = owned_by(directory.path(), owner + 1).expect_err("another's").to_string();
        assert!(refused.contains(&format!("belongs to uid {owner}")), "{refused}");
        owned_by(&directory.path().join("none"), owner + 1).expect("not there yet");
    }
}
