//! The text of a first `agent.toml`.

use std::path::Path;

use countersign::core::key::KeyName;

use super::account::Account;
use super::paths::InstallPaths;
use super::token::{ChosenToken, ProfileKind};
use crate::failure::Failure;

/// The whole file. A comment explains each choice that weakens the protection.
pub(super) fn text(
    paths: &InstallPaths,
    token: &ChosenToken,
    client: Option<&KeyName>,
    keys: &[KeyName],
    owner: &Account,
) -> Result<String, Failure> {
    let mut text =
        "# Written by countersign init. countersign policy check FILE says whether a change is \
         sound.\n\n"
            .to_owned();
    text.push_str(&agent(paths, token)?);
    text.push_str(&token_section(paths, token)?);
    text.push_str(&client_section(paths, client, keys, owner)?);
    Ok(text)
}

fn agent(paths: &InstallPaths, token: &ChosenToken) -> Result<String, Failure> {
    let mut text = format!(
        "[agent]\nstate_dir = {}\nsocket = {}\nadmin_socket = {}\n",
        path(&paths.state)?,
        path(&paths.socket())?,
        path(&paths.admin_socket())?
    );
    if token.kind == ProfileKind::Software {
        text.push_str(
            "# A software token computes in this machine's memory and keeps its keys in files: for \
             tests and trials. Root\n\
             # has the secrets, and so has anybody who copies the files and the PIN.\n\
             allow_software_tokens = true\n",
        );
    }
    if !paths.is_system() {
        text.push_str(
            "# Clients run as the agent's own user: no isolation. Such a client can read the \
             agent's files and do everything that the\n\
             # operator can do. For real money use countersign init --system and one user for each \
             bot.\n\
             allow_same_user = true\n",
        );
    }
    Ok(text)
}

fn token_section(paths: &InstallPaths, token: &ChosenToken) -> Result<String, Failure> {
    let mut text = format!(
        "\n[token.{}]\nprofile = {}\nlabel = {}\n",
        token.name,
        quoted(&token.profile)?,
        quoted(&token.label)?
    );
    match &token.made {
        Some(made) => {
            text.push_str(&format!("pin = {{ file = {} }}\n", path(&made.pin_file)?));
            text.push_str(&format!(
                "environment = {{ SOFTHSM2_CONF = {} \
                                    }}\n",
                path(&made.configuration)?
            ));
        }
        None if paths.is_system() => text.push_str(
            "# systemd-creds encrypt --name=hsm-pin - /etc/credstore.encrypted/hsm-pin (the unit \
             loads it)\n\
             pin = { credential = \"hsm-pin\" }\n",
        ),
        None => text.push_str(
            "# Asked for on the terminal the agent is started on. Under systemd: { credential = … \
             } or { file = … }.\n\
             pin = { prompt = true }\n",
        ),
    }
    Ok(text)
}

fn client_section(
    paths: &InstallPaths,
    client: Option<&KeyName>,
    keys: &[KeyName],
    owner: &Account,
) -> Result<String, Failure> {
    if paths.is_system() && client.is_none() {
        return Ok("\n# One client for each bot, by its user:\n# [client.mm-bot]\n# user = \
                   \"mm-bot\"\n\
             # keys = [\"binance-mm\"]\n# scopes = [\"read\", \"trade\"]\n# symbols = \
             [\"BTCUSDT\"]\n# rate = \"50/s\"\n"
            .to_owned());
    }
    let name = client.map_or("me", KeyName::as_str);
    let user = match &owner.name {
        _ if paths.is_system() => quoted(name)?,
        Some(user) => quoted(user)?,
        None => owner.uid.to_string(), // without quotes: a text would be looked up as a name
    };
    let keys =
        keys.iter().map(|key| quoted(key.as_str())).collect::<Result<Vec<_>, _>>()?.join(", ");
    // The name is in quotes: TOML would read an unquoted name with a dot as two names.
    Ok(format!(
        "\n[client.{}]\nuser = {user}\n# Enrol a key with countersign key add, then name it here \
         and reload the agent.\n\
         keys = [{keys}]\nscopes = [\"read\", \"trade\"]\n\
         # Without a rate one client can fill the disk of the journal.\nrate = \"50/s\"\n",
        quoted(name)?
    ))
}

fn path(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .ok_or_else(|| Failure::Usage(format!("the path {} is not UTF-8", path.display())))?;
    quoted(text)
}

/// A basic string of TOML; its escapes are those of JSON.
fn quoted(text: &str) -> Result<String, Failure> {
    if text.chars().any(char::is_control) {
        return Err(Failure::Usage(format!("{text:?} has control characters")));
    }
    let mut quoted = String::new();
    countersign::core::json::write_string(&mut quoted, text);
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::init::token::MadeToken;

    fn paths() -> InstallPaths {
        InstallPaths::choose(false, Some(Path::new("/x/a \"b\""))).expect("a directory")
    }

    fn token(made: bool) -> ChosenToken {
        let made = made.then(|| MadeToken {
            label: "l".into(),
            configuration: "/x/conf".into(),
            pin_file: "/x/pin".into(),
        });
        ChosenToken {
            name: "trial".into(),
            profile: "softhsm".into(),
            label: "l".into(),
            kind: ProfileKind::Software,
            made,
        }
    }

    #[test]
    fn a_trial_says_what_it_gives_up() {
        let owner = Account { name: Some("me".into()), uid: 1000, gid: 1000 };
        let keys = [KeyName::parse("binance-mm").expect("a name")];
        let text = text(&paths(), &token(true), None, &keys, &owner).expect("written");
        for line in [
            r#"state_dir = "/x/a \"b\"/state""#,
            "allow_software_tokens = true",
            "allow_same_user = true",
            r#"pin = { file = "/x/pin" }"#,
            r#"environment = { SOFTHSM2_CONF = "/x/conf" }"#,
            r#"user = "me""#,
            r#"keys = ["binance-mm"]"#,
            r#"rate = "50/s""#,
        ] {
            assert!(
                text.lines().any(|candidate| candidate == line),
                "{line} is missing in\n{text}"
            );
        }
        assert!(text.contains("no isolation") && text.contains("for tests and trials"));
    }

    #[test]
    fn a_user_without_a_name_is_a_number_and_one_whose_name_is_a_number_is_a_name() {
        for (name, line) in [(None, "user = 1500"), (Some("1500".to_owned()), "user = \"1500\"")] {
            let owner = Account { name, uid: 1500, gid: 1500 };
            let text = text(&paths(), &token(true), None, &[], &owner).expect("written");
            assert!(
                text.lines().any(|candidate| candidate == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn paths_that_toml_cannot_hold_are_refused() {
        assert!(quoted("/x/\n").is_err() && quoted("/x/\u{7f}").is_err());
        assert_eq!(quoted(r"a\b").expect("quoted"), r#""a\\b""#);
    }
}
