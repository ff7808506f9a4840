//! The text of `agent.toml`, on a machine that does not change.

use std::path::Path;
use std::rc::Rc;

use countersign_base::config::{self, SystemFacts};

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::files("config", |path| {
        path.extension().is_some_and(|extension| extension == "toml")
    });
    assert!(seeds.len() > 20, "the configurations are there");
    seeds.push(include_bytes!("../../../docs/agent.toml.sample").to_vec());
    seeds
}

/// Checks that a text is taken and means the same each time, or is refused with places that can be
/// shown in every form.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parse = || config::parse(text, Path::new("/etc/countersign/agent.toml"), &facts());
    match parse() {
        Ok(config) => {
            let again = parse().expect("it was taken before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert!(config.endpoints().iter().all(|endpoint| endpoint.path.is_absolute()));
        }
        Err(error) => {
            let lines = text.lines().count() + 1;
            let findings = error.findings();
            assert!(!findings.is_empty());
            assert!(
                findings
                    .iter()
                    .all(|finding| (1..=lines).contains(&finding.line) && finding.column >= 1)
            );
            assert!(error.to_string().contains("agent.toml:"), "{error}");
            assert!(!error.in_colour().is_empty());
        }
    }
}

fn facts() -> SystemFacts {
    SystemFacts {
        attestation_file: std::rc::Rc::new(|_| Err("it is not there".to_owned())),
        own_uid: 999,
        socket: "/run/countersign/agent.sock".into(),
        admin_socket: None,
        credentials_directory: None,
        user_id: Rc::new(|name| name.ends_with("bot").then(|| 1000 + name.len() as u32)),
        profile_file: Rc::new(|_| Err("it cannot be opened".to_owned())),
    }
}
