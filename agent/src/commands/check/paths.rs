//! Checks the files and directories that a configuration names: they must be there, and only
//! trusted users may be able to change them.

use std::io;
use std::path::{Path, PathBuf};

use countersign_base::config::{Config, TokenConfig};
use countersign_base::messages::confinement::Demand;
use countersign_base::messages::settings::{PinSource, TokenSettings};
use countersign_base::system::confine;
use countersign_base::trusted_path::{self, Exposure, PathKind, TrustError};
use rustix::fs::Access;

use super::tokens::{self, FoundToken};
use super::with_causes;

/// The warnings and problems of the paths that were checked so far.
#[derive(Debug, Default)]
pub(super) struct PathFindings {
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// Socket of pcscd.
const PCSCD: &str = "/run/pcscd/pcscd.comm";

impl PathFindings {
    /// Checks that this kernel can confine the processes as the operator demands.
    pub(super) fn confinement(&mut self, demand: Demand) {
        for missing in confine::missing_in_kernel() {
            match demand {
                Demand::Required => {
                    self.problems.push(format!("[agent] confinement = \"required\", and {missing}"))
                }
                Demand::Available => self.warnings.push(format!("not confined: {missing}")),
                Demand::Off => {}
            }
        }
        if demand == Demand::Off {
            self.warnings.push("not confined: [agent] confinement = \"off\"".to_owned());
        }
    }

    /// Checks the files that a token needs. Returns the module that would be loaded.
    pub(super) fn token(&mut self, token: &TokenConfig) -> Option<PathBuf> {
        let settings = &token.settings;
        let section = format!("[token.{}]", settings.name);
        self.pin(&section, settings);
        for (name, value) in &settings.environment {
            self.environment_path(&format!("{section} {name}"), Path::new(value));
        }
        if token.profile.is_yubikey() {
            if !Path::new(PCSCD).exists() {
                self.warnings.push(format!(
                    "{section}: {PCSCD} is not there: is pcscd installed and running?"
                ));
            }
            return None;
        }
        let candidates = match &settings.module {
            Some(path) => std::slice::from_ref(path),
            None => token.profile.library_paths(),
        };
        let Some(module) = candidates.iter().find(|path| path.exists()) else {
            let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
            let list = if tried.is_empty() {
                "none is known for this system".to_owned()
            } else {
                tried.join(", ")
            };
            self.problems.push(format!(
                "{section}: its module is not there ({list}): install it, or set module = \"…\""
            ));
            return None;
        };
        self.trusted(&format!("{section} module"), module, PathKind::File(Exposure::Public));
        Some(module.clone())
    }

    /// Looks for the token itself, if its module is there.
    ///
    /// A token that is plugged in only when it is needed is no problem while it is away.
    pub(super) fn look_for(
        &mut self,
        token: &TokenConfig,
        module: Option<&Path>,
    ) -> Option<FoundToken> {
        let settings = &token.settings;
        if module.is_none() && !settings.is_yubikey() {
            return None; // the missing module is reported already
        }
        match tokens::find(settings) {
            Ok(found) => Some(found),
            Err(why) => {
                let said = format!("[token.{}]: {why}", settings.name);
                let comes_and_goes = settings.is_yubikey() || settings.is_vault();
                if comes_and_goes {
                    self.warnings.push(said)
                } else {
                    self.problems.push(said)
                }
                None
            }
        }
    }

    /// Checks that the source of the PIN exists, with its owner and mode. The PIN is neither read
    /// nor tried.
    fn pin(&mut self, section: &str, settings: &TokenSettings) {
        match &settings.pin {
            PinSource::Credential(name) => match &settings.credentials_directory {
                Some(directory) if directory.join(name).is_file() => {}
                Some(_) => self.problems.push(format!(
                    "{section} pin: systemd gave no credential {name}: add \
                     LoadCredential={name}:/PATH to the unit"
                )),
                None => self.warnings.push(format!(
                    "{section} pin: the credential {name} can only be seen by a service of systemd \
                     that has it"
                )),
            },
            PinSource::Fd(number) => self.warnings.push(format!(
                "{section} pin: descriptor {number} can only be seen where the agent is started \
                 with it"
            )),
            PinSource::File(path) => {
                self.trusted(&format!("{section} pin"), path, PathKind::File(Exposure::Secret));
            }
            PinSource::Prompt | PinSource::Sealed(_) => {}
        }
    }

    /// Checks a file that an environment variable names. A file that configures a module is as
    /// powerful as the module.
    fn environment_path(&mut self, what: &str, path: &Path) {
        if !path.is_absolute() {
            return;
        }
        if !path.exists() {
            return self.warnings.push(format!("{what}: {} is not there yet", path.display()));
        }
        let kind =
            if path.is_dir() { PathKind::Directory } else { PathKind::File(Exposure::Public) };
        self.trusted(what, path, kind);
    }

    /// Checks the directories to which the agent writes: for its state and its sockets.
    pub(super) fn directories(&mut self, config: &Config) {
        self.directory("[agent] state_dir", &config.agent.state_dir);
        let mut seen: Vec<PathBuf> = Vec::new();
        for endpoint in config.endpoints() {
            let directory = endpoint.path.parent().unwrap_or(Path::new("/")).to_owned();
            if !seen.contains(&directory) {
                self.directory("sockets", &directory);
                seen.push(directory);
            }
        }
    }

    /// Checks a directory of the agent's own. The agent or systemd makes it if it is missing.
    fn directory(&mut self, what: &str, path: &Path) {
        match trusted_path::check(path, PathKind::Directory) {
            Ok(()) if is_writable(path) => {}
            Ok(()) => {
                self.problems.push(format!("{what}: this user cannot write to {}", path.display()))
            }
            Err(TrustError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                self.missing_directory(what, path);
            }
            Err(error) => self.problems.push(format!("{what}: {}", with_causes(&error))),
        }
    }

    fn missing_directory(&mut self, what: &str, path: &Path) {
        let Some(parent) = path.ancestors().skip(1).find(|parent| parent.exists()) else { return };
        if self.trusted(what, parent, PathKind::Directory) && !is_writable(parent) {
            self.warnings.push(format!(
                "{what}: {} is not there, and this user cannot make it: systemd does, or make it \
                 by hand",
                path.display()
            ));
        }
    }

    fn trusted(&mut self, what: &str, path: &Path, kind: PathKind) -> bool {
        let trusted = trusted_path::check(path, kind);
        if let Err(error) = &trusted {
            self.problems.push(format!("{what}: {}", with_causes(error)));
        }
        trusted.is_ok()
    }
}

fn is_writable(directory: &Path) -> bool {
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use crate::commands::check::{BAD_CONFIGURATION, Format, TokenSearch, write};

    /// A directory with all files that a configuration needs. Its module is not a real one: it is
    /// never loaded.
    struct Trial {
        directory: tempfile::TempDir,
    }

    impl Trial {
        fn new() -> Self {
            let trial = Self { directory: tempfile::tempdir().expect("a directory") };
            for (name, mode) in [("pin", 0o600), ("module.so", 0o644), ("softhsm2.conf", 0o644)] {
                fs::write(trial.path(name), "1234\n").expect("written");
                trial.mode(name, mode);
            }
            for name in ["state", "run"] {
                fs::create_dir(trial.path(name)).expect("made");
                trial.mode(name, 0o755);
            }
            trial
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("ours");
        }

        fn text(&self) -> String {
            let here = self.directory.path().display();
            let uid = rustix::process::geteuid().as_raw();
            format!(
                "[agent]\nstate_dir = \"{here}/state\"\nsocket = \
                 \"{here}/run/agent.sock\"\nallow_software_tokens = true\n\
                 allow_same_user = true\n\n[token.hsm]\nprofile = \"softhsm\"\nlabel = \"x\"\n\
                 module = \"{here}/module.so\"\npin = {{ file = \"{here}/pin\" }}\n\
                 environment = {{ SOFTHSM2_CONF = \"{here}/softhsm2.conf\" }}\n\n\
                 [client.me]\nuser = {uid}\nkeys = [\"binance-mm\"]\nscopes = [\"read\"]\n"
            )
        }

        /// The exit code, the output and the errors.
        fn check(&self, text: &str, format: Format) -> (u8, String, String) {
            fs::write(self.path("agent.toml"), text).expect("written");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = write(
                &self.path("agent.toml"),
                TokenSearch::LeaveAlone,
                format,
                &mut out,
                &mut err,
            );
            let code = code.expect("written to memory");
            (code, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
        }
    }

    #[test]
    fn what_is_sound_is_said_with_its_weaknesses() {
        let trial = Trial::new();
        let (code, out, err) = trial.check(&trial.text(), Format::Plain);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        for said in [
            "token hsm: softhsm, tier software, ",
            "warning: software token: ",
            "warning: no isolation: bots share the agent's user",
            "client me: uid ",
            "keys binance-mm\n",
        ] {
            assert!(out.contains(said), "{said}\n{out}");
        }
        assert!(out.ends_with("\nsound\n"), "{out}");
    }

    #[test]
    fn each_place_that_others_can_change_is_a_problem() {
        for (name, mode, said) in [
            ("pin", 0o644, "[token.hsm] pin: "),
            ("module.so", 0o666, "[token.hsm] module: "),
            ("softhsm2.conf", 0o664, "[token.hsm] SOFTHSM2_CONF: "),
            ("state", 0o777, "[agent] state_dir: "),
            ("run", 0o775, "sockets: "),
        ] {
            let trial = Trial::new();
            trial.mode(name, mode);
            let (code, out, err) = trial.check(&trial.text(), Format::Plain);
            assert_eq!(code, BAD_CONFIGURATION, "{name}: {out}{err}");
            assert!(
                err.contains(&format!("error: {said}")) && err.contains("mend it with: chmod"),
                "{name}: {err}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_a_problem_unless_it_will_be_made() {
        for (name, said) in
            [("pin", "[token.hsm] pin: "), ("module.so", "[token.hsm]: its module is not there")]
        {
            let trial = Trial::new();
            fs::remove_file(trial.path(name)).expect("ours");
            let (code, _, err) = trial.check(&trial.text(), Format::Plain);
            assert_eq!(code, BAD_CONFIGURATION);
            assert!(err.contains(&format!("error: {said}")), "{name}: {err}");
        }
        let trial = Trial::new();
        for name in ["state", "run"] {
            fs::remove_dir(trial.path(name)).expect("ours");
        }
        let (code, out, err) = trial.check(&trial.text(), Format::Plain);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }

    #[test]
    fn programs_get_one_object_whatever_was_found() {
        let trial = Trial::new();
        let json = |text: &str| {
            let (code, out, err) = trial.check(text, Format::Json);
            assert_eq!(err, "");
            (code, serde_json::from_str::<serde_json::Value>(&out).expect("one object"))
        };
        let (code, sound) = json(&trial.text());
        assert_eq!((code, &sound["v"], &sound["sound"]), (0, &1.into(), &true.into()));
        assert!(sound["error"].is_null());
        assert_eq!(sound["tokens"][0]["tier"], "software");
        assert_eq!(sound["clients"][0]["isolated"], false);
        let (code, wrong) = json("[agent]\nstate_dir = 5\n");
        assert_eq!((code, &wrong["sound"]), (BAD_CONFIGURATION, &false.into()));
        assert_eq!(
            (&wrong["findings"][0]["line"], &wrong["findings"][0]["column"]),
            (&2.into(), &13.into())
        );
        assert!(
            wrong["error"]["message"].as_str().is_some_and(|said| said.contains("agent.toml:2:13")),
            "{wrong}"
        );
        trial.mode("agent.toml", 0o666);
        let (code, exposed) = json(&trial.text());
        assert_eq!(code, BAD_CONFIGURATION);
        assert!(
            exposed["problems"][0].as_str().is_some_and(|said| said.contains("chmod go-w")),
            "{exposed}"
        );
    }

    #[test]
    fn a_wrong_text_is_shown_with_its_line() {
        let trial = Trial::new();
        let (code, out, err) = trial.check("[agent]\nstate_dir = 5\n", Format::Plain);
        assert_eq!((code, out.as_str()), (BAD_CONFIGURATION, ""));
        assert!(err.contains("agent.toml:2:13") && err.contains("2 | state_dir = 5"), "{err}");
    }
}
