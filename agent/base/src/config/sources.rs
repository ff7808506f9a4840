//! Everything that a configuration is made from. A process that can open the files gathers it for
//! the front, which cannot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::facts::SystemFacts;
use super::{Config, ConfigError, parse, read_text};

/// The text of `agent.toml`, and the users, profiles and attestations that it names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Sources {
    text: String,
    users: BTreeMap<String, Option<u32>>,
    profiles: BTreeMap<PathBuf, Result<String, String>>,
    attestations: BTreeMap<PathBuf, Result<String, String>>,
}

impl Sources {
    /// Reads the file and everything that it names. The result is checked later, by
    /// [`Self::into_config`].
    pub fn gather(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        let asked = Rc::new(RefCell::new(Self { text: text.clone(), ..Self::default() }));
        let machine = SystemFacts::of_this_process();
        let (user_id, profile_file) =
            (Rc::clone(&machine.user_id), Rc::clone(&machine.profile_file));
        let (attestations, users, profiles) =
            (Rc::clone(&asked), Rc::clone(&asked), Rc::clone(&asked));
        let facts = SystemFacts {
            attestation_file: Rc::new(move |path| {
                let answer = (machine.attestation_file)(path);
                attestations.borrow_mut().attestations.insert(path.to_owned(), answer.clone());
                answer
            }),
            user_id: Rc::new(move |name| {
                let answer = (user_id)(name);
                users.borrow_mut().users.insert(name.to_owned(), answer);
                answer
            }),
            profile_file: Rc::new(move |path| {
                let answer = (profile_file)(path);
                profiles.borrow_mut().profiles.insert(path.to_owned(), answer.clone());
                answer
            }),
            ..SystemFacts::of_this_process()
        };
        // The text is parsed only to learn the names in it. The front finds all problems again, and
        // shows them.
        drop(parse(text, path, &facts));
        drop(facts);
        Ok(Rc::unwrap_or_clone(asked).into_inner())
    }

    /// Makes the configuration for a process with these facts.
    pub fn into_config(self, path: &Path, facts: &SystemFacts) -> Result<Config, ConfigError> {
        let Self { text, users, profiles, attestations } = self;
        let unread = || Err("it was not read".to_owned());
        let facts = SystemFacts {
            attestation_file: Rc::new(move |path| {
                attestations.get(path).cloned().unwrap_or_else(unread)
            }),
            user_id: Rc::new(move |name| users.get(name).copied().flatten()),
            profile_file: Rc::new(move |path| {
                profiles.get(path).cloned().unwrap_or_else(|| Err("it was not read".to_owned()))
            }),
            ..facts.clone()
        };
        parse(text, path, &facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gathered_makes_the_configuration_that_the_machine_makes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("own.toml"), include_str!("../../../../pkcs11-profiles/softhsm.toml"))
            .expect("written");
        let text = format!(
            "[agent]\nallow_software_tokens = true\nallow_same_user = true\n[token.a]\nprofile = \
             \"{}\"\nlabel = \"a\"\n\
             pin = {{ prompt = true }}\n[client.me]\nuser = \"root\"\nkeys = [\"k\"]\nscopes = \
             [\"read\"]\n",
            path("own.toml").display()
        );
        std::fs::write(path("agent.toml"), &text).expect("written");
        let file = path("agent.toml");
        let facts = SystemFacts::of_this_process();
        let direct = parse(text, &file, &facts).expect("sound");
        let gathered = Sources::gather(&file).expect("readable");
        assert_eq!((gathered.users.len(), gathered.profiles.len()), (1, 1), "{gathered:?}");
        let gathered: Sources =
            postcard::from_bytes(&postcard::to_stdvec(&gathered).expect("encodes"))
                .expect("decodes");
        let made = gathered.into_config(&file, &facts).expect("sound");
        assert_eq!(format!("{made:?}"), format!("{direct:?}"));
        // A restart compares this hash with the accepted one.
        let changed =
            format!("{}\n# another", include_str!("../../../../pkcs11-profiles/softhsm.toml"));
        std::fs::write(path("own.toml"), changed).expect("written");
        let another =
            Sources::gather(&file).expect("readable").into_config(&file, &facts).expect("sound");
        assert_ne!(another.policy.sha256, direct.policy.sha256);
    }
}
