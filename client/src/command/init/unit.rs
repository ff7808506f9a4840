//! The systemd unit of a first set-up.

use std::path::Path;

use super::place::{Place, SYSTEM_USER};
use super::token::{ProfileKind, Token};
use crate::agent_program;
use crate::failure::Failure;

/// The whole unit, for the machine or for a user.
pub(super) fn text(place: &Place, token: &Token) -> Result<String, Failure> {
    let program = agent_program::find()?;
    let mut text = format!(
        "# Written by countersign init.\n[Unit]\nDescription=countersign agent\n\n[Service]\nType=exec\n\
         ExecStart={} run --config {}\nExecReload=kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=1\n\
         # A refused PIN or a bad configuration does not get better by trying again; a PIN has few tries.\n\
         RestartPreventExitStatus=78\nLimitCORE=0\nLimitMEMLOCK=8M\nUMask=0077\nNoNewPrivileges=yes\n",
        word(&program)?,
        word(&place.config)?
    );
    if place.has_runtime_directory() {
        let mode = if place.is_system() { "0755" } else { "0700" };
        text.push_str(&format!("RuntimeDirectory=countersign\nRuntimeDirectoryMode={mode}\n"));
    }
    if place.is_system() {
        text.push_str(&hardening(token));
    }
    let target = if place.is_system() { "multi-user.target" } else { "default.target" };
    text.push_str(&format!("\n[Install]\nWantedBy={target}\n"));
    Ok(text)
}

fn hardening(token: &Token) -> String {
    let mut text = format!(
        "User={SYSTEM_USER}\nGroup={SYSTEM_USER}\nStateDirectory=countersign\nStateDirectoryMode=0700\n\
         CapabilityBoundingSet=\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nProtectClock=yes\n\
         ProtectControlGroups=yes\nProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\nRestrictNamespaces=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\n\
         LockPersonality=yes\nSystemCallArchitectures=native\n"
    );
    match token.kind {
        ProfileKind::Software => {
            text.push_str("PrivateDevices=yes\nPrivateNetwork=yes\nRestrictAddressFamilies=AF_UNIX\n")
        }
        // Its module may need a device or the network.
        ProfileKind::Hardware => text.push_str("LoadCredentialEncrypted=hsm-pin:/etc/countersign/hsm-pin.cred\n"),
    }
    text
}

/// One word of a command line in a unit, <https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html>.
fn word(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| Failure::Usage(format!("the path {} cannot stand in a systemd unit", path.display())))?;
    let escaped = text.chars().fold(String::new(), |mut escaped, character| {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '%' | '$' => escaped.extend([character, character]),
            other => escaped.push(other),
        }
        escaped
    });
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_of_a_unit() {
        assert_eq!(word(Path::new("/a b/50%/$x/\"q\"")).expect("a word"), r#""/a b/50%%/$$x/\"q\"""#);
        assert!(word(Path::new("/a\nb")).is_err());
    }
}
